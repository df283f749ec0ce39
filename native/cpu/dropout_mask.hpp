// The multipliers of core/dropout.hpp for vectors of neighbouring elements.
#pragma once
#include "core/dropout.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// The multipliers of two neighbouring vectors: as many as one vector of hashes decides.
struct MaskPair {
  Vector at[2];
};

class DropoutMask {
 public:
  explicit DropoutMask(const Dropout& dropout) : dropout_(dropout) {}

  bool active() const { return dropout_.active(); }

  /// Multipliers of elements index .. index + 2 kLanes - 1. Fastest when index is a multiple of four.
  MaskPair pair(uint64_t index) const {
    if (index % 4 == 0) [[likely]] return aligned_pair(index / 4);
    float multipliers[2 * Vector::kLanes];
    for (int64_t i = 0; i < 2 * Vector::kLanes; ++i) multipliers[i] = dropout_.multiplier(index + i);
    return {{Vector::load(multipliers), Vector::load(multipliers + Vector::kLanes)}};
  }

 private:
  // random_bits(seed, index) = mix(mix(seed + (index + 1) kStep)), see core/random.hpp.
  static constexpr uint64_t kStep = 0x9E3779B97F4A7C15ull;
  static constexpr uint64_t kFirst = 0xBF58476D1CE4E5B9ull;
  static constexpr uint64_t kSecond = 0x94D049BB133111EBull;

#if defined(__AVX512F__)
  MaskPair aligned_pair(uint64_t hash) const {
    const __m512i lane = _mm512_mullo_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), all(kStep));
    __m512i z = _mm512_add_epi64(all(dropout_.seed + (hash + 1) * kStep), lane);
    z = _mm512_mullo_epi64(_mm512_xor_si512(z, _mm512_srli_epi64(z, 30)), all(kFirst));
    z = _mm512_mullo_epi64(_mm512_xor_si512(z, _mm512_srli_epi64(z, 27)), all(kSecond));
    z = _mm512_xor_si512(z, _mm512_srli_epi64(z, 31));
    const __mmask32 kept = _mm512_cmpge_epu16_mask(z, _mm512_set1_epi16(static_cast<int16_t>(dropout_.threshold)));
    const __m512 scale = _mm512_set1_ps(dropout_.scale);
    return {{{_mm512_maskz_mov_ps(static_cast<__mmask16>(kept), scale)},
             {_mm512_maskz_mov_ps(static_cast<__mmask16>(kept >> 16), scale)}}};
  }
  static __m512i all(uint64_t x) { return _mm512_set1_epi64(static_cast<int64_t>(x)); }
#elif defined(__AVX2__)
  MaskPair aligned_pair(uint64_t hash) const {
    const __m256i lane = _mm256_setr_epi64x(0, static_cast<int64_t>(kStep), static_cast<int64_t>(2 * kStep),
                                            static_cast<int64_t>(3 * kStep));
    __m256i z = _mm256_add_epi64(all(dropout_.seed + (hash + 1) * kStep), lane);
    z = multiply(_mm256_xor_si256(z, _mm256_srli_epi64(z, 30)), kFirst);
    z = multiply(_mm256_xor_si256(z, _mm256_srli_epi64(z, 27)), kSecond);
    z = _mm256_xor_si256(z, _mm256_srli_epi64(z, 31));
    const __m256i threshold = _mm256_set1_epi16(static_cast<int16_t>(dropout_.threshold));
    const __m256i kept = _mm256_cmpeq_epi16(_mm256_max_epu16(z, threshold), z);  // z >= threshold, unsigned
    const __m256 scale = _mm256_set1_ps(dropout_.scale);
    const __m256i low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(kept));
    const __m256i high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(kept, 1));
    return {{{_mm256_and_ps(_mm256_castsi256_ps(low), scale)}, {_mm256_and_ps(_mm256_castsi256_ps(high), scale)}}};
  }
  static __m256i all(uint64_t x) { return _mm256_set1_epi64x(static_cast<int64_t>(x)); }
  // The low 64 bits of a product with a constant, which AVX2 has no instruction for.
  static __m256i multiply(__m256i a, uint64_t constant) {
    const __m256i low = all(constant & 0xffffffff), high = all(constant >> 32);
    const __m256i cross = _mm256_add_epi64(_mm256_mul_epu32(_mm256_srli_epi64(a, 32), low), _mm256_mul_epu32(a, high));
    return _mm256_add_epi64(_mm256_mul_epu32(a, low), _mm256_slli_epi64(cross, 32));
  }
#endif

  Dropout dropout_;
};

/// Calls step(i, lanes, multipliers) over [0, count) like for_each_vector; element i has index first + i in the dropout
/// stream. Without dropout the multipliers are ones.
template <typename Step>
[[gnu::always_inline]] inline void for_each_masked(const DropoutMask& mask, uint64_t first, int64_t count, Step&& step) {
  constexpr int64_t kLanes = Vector::kLanes;
  if (!mask.active()) {
    const Vector one = Vector::all(1.0f);
    for_each_vector(count, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) { step(i, lanes, one); });
    return;
  }
  int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    const MaskPair multipliers = mask.pair(first + i);
    step(i, kLanes, multipliers.at[0]);
    step(i + kLanes, kLanes, multipliers.at[1]);
  }
  if (i == count) return;
  const MaskPair multipliers = mask.pair(first + i);
  if (count - i > kLanes) {
    step(i, kLanes, multipliers.at[0]);
    step(i + kLanes, count - i - kLanes, multipliers.at[1]);
  } else {
    step(i, count - i, multipliers.at[0]);
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
