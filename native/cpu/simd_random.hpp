// random_bits of core/random.hpp for a vector of consecutive indices: dropout inside vectorised loops.
#pragma once
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace random_detail {

inline constexpr uint64_t kIncrement = 0x9E3779B97F4A7C15ull;
inline constexpr uint64_t kFirst = 0xBF58476D1CE4E5B9ull;
inline constexpr uint64_t kSecond = 0x94D049BB133111EBull;

#if defined(__AVX512F__)

using Integers = __m512i;  // eight 64-bit lanes
inline Integers all(uint64_t x) { return _mm512_set1_epi64(static_cast<int64_t>(x)); }
inline Integers lane_increments() {
  return _mm512_mullo_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), all(kIncrement));
}
template <int Shift> Integers mix(Integers z, uint64_t factor) {
  return _mm512_mullo_epi64(_mm512_xor_si512(z, _mm512_srli_epi64(z, Shift)), all(factor));
}
// The top 24 bits of the finished state.
inline Integers top_bits(Integers z) {
  return _mm512_srli_epi64(_mm512_xor_si512(z, _mm512_srli_epi64(z, 31)), 40);
}
inline Integers add(Integers a, Integers b) { return _mm512_add_epi64(a, b); }
inline Vector to_float(Integers low, Integers high) {
  const __m512i integers = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi64_epi32(low)),
                                              _mm512_cvtepi64_epi32(high), 1);
  return {_mm512_cvtepi32_ps(integers)};
}

#else

using Integers = __m256i;  // four 64-bit lanes
inline Integers all(uint64_t x) { return _mm256_set1_epi64x(static_cast<int64_t>(x)); }
inline Integers lane_increments() {
  return _mm256_setr_epi64x(0, static_cast<int64_t>(kIncrement), static_cast<int64_t>(2 * kIncrement),
                            static_cast<int64_t>(3 * kIncrement));
}
// Low 64 bits of a product from 32-bit halves: low*low + ((low*high' + high*low') << 32).
inline Integers multiply(Integers a, uint64_t factor) {
  const __m256i low = all(factor & 0xffffffffu), high = all(factor >> 32);
  const __m256i cross = _mm256_add_epi64(_mm256_mul_epu32(a, high), _mm256_mul_epu32(_mm256_srli_epi64(a, 32), low));
  return _mm256_add_epi64(_mm256_mul_epu32(a, low), _mm256_slli_epi64(cross, 32));
}
template <int Shift> Integers mix(Integers z, uint64_t factor) {
  return multiply(_mm256_xor_si256(z, _mm256_srli_epi64(z, Shift)), factor);
}
inline Integers top_bits(Integers z) {
  return _mm256_srli_epi64(_mm256_xor_si256(z, _mm256_srli_epi64(z, 31)), 40);
}
inline Integers add(Integers a, Integers b) { return _mm256_add_epi64(a, b); }
inline Vector to_float(Integers low, Integers high) {
  // The even 32-bit lanes of both, then the 64-bit quarters back in order.
  const __m256i mixed = _mm256_castps_si256(
      _mm256_shuffle_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high), _MM_SHUFFLE(2, 0, 2, 0)));
  return {_mm256_cvtepi32_ps(_mm256_permute4x64_epi64(mixed, _MM_SHUFFLE(3, 1, 2, 0)))};
}

#endif

inline Integers finish(Integers state) { return top_bits(mix<27>(mix<30>(state, kFirst), kSecond)); }

}  // namespace random_detail

/// random_uniform(seed, index + lane) in every lane, bit for bit.
inline Vector random_uniform_vector(uint64_t seed, uint64_t index) {
  using namespace random_detail;
  const Integers low = add(all(seed + (index + 1) * kIncrement), lane_increments());
  const Integers high = add(low, all(Vector::kLanes / 2 * kIncrement));
  return to_float(finish(low), finish(high)) * Vector::all(1.0f / 16777216.0f);
}

/// Zero in dropped lanes, 1 / (1 - probability) in kept ones.
inline Vector dropout_factors(uint64_t seed, uint64_t index, float probability) {
  const Vector uniform = random_uniform_vector(seed, index);
  return select_greater(Vector::all(probability), uniform, Vector::zero(), Vector::all(1.0f / (1.0f - probability)));
}

}  // namespace usmlite::cpu::USMLITE_ISA
