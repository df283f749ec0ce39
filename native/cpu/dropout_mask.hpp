// The multipliers of core/dropout.hpp for one vector of neighbouring elements.
#pragma once
#include "core/dropout.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// Work is split over threads in multiples of this many elements, so that vectors begin on whole hashes.
inline constexpr int64_t kDropoutGroup = 64;

class DropoutMask {
 public:
  explicit DropoutMask(const Dropout& dropout) : dropout_(dropout) {}

  bool active() const { return dropout_.active(); }

#if defined(__AVX512F__)
  /// Multipliers of elements index .. index + kLanes - 1; index is a multiple of four.
  Vector at(uint64_t index) const {
    const __m256i bits = hash(index / 4);
    const __m512i values = _mm512_cvtepu16_epi32(bits);
    const __mmask16 kept = _mm512_cmpge_epi32_mask(values, _mm512_set1_epi32(static_cast<int>(dropout_.threshold)));
    return {_mm512_maskz_mov_ps(kept, _mm512_set1_ps(dropout_.scale))};
  }

 private:
  // random_bits(seed, first .. first + 3)
  __m256i hash(uint64_t first) const {
    constexpr uint64_t kStep = 0x9E3779B97F4A7C15ull;
    const __m256i lane = _mm256_set_epi64x(static_cast<int64_t>(3 * kStep), static_cast<int64_t>(2 * kStep),
                                           static_cast<int64_t>(kStep), 0);
    __m256i z = _mm256_add_epi64(_mm256_set1_epi64x(static_cast<int64_t>(dropout_.seed + (first + 1) * kStep)), lane);
    z = _mm256_mullo_epi64(_mm256_xor_si256(z, _mm256_srli_epi64(z, 30)),
                           _mm256_set1_epi64x(static_cast<int64_t>(0xBF58476D1CE4E5B9ull)));
    z = _mm256_mullo_epi64(_mm256_xor_si256(z, _mm256_srli_epi64(z, 27)),
                           _mm256_set1_epi64x(static_cast<int64_t>(0x94D049BB133111EBull)));
    return _mm256_xor_si256(z, _mm256_srli_epi64(z, 31));
  }
#elif defined(__AVX2__)
  /// Multipliers of elements index .. index + kLanes - 1; index is a multiple of four.
  Vector at(uint64_t index) const {
    const __m256i values = _mm256_cvtepu16_epi32(hash(index / 4));
    const __m256i dropped = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(dropout_.threshold)), values);
    return {_mm256_andnot_ps(_mm256_castsi256_ps(dropped), _mm256_set1_ps(dropout_.scale))};
  }

 private:
  // The low 64 bits of a product with a constant, which AVX2 has no instruction for.
  static __m128i multiply(__m128i a, uint64_t constant) {
    const __m128i low = _mm_set1_epi64x(static_cast<int64_t>(constant & 0xffffffff));
    const __m128i high = _mm_set1_epi64x(static_cast<int64_t>(constant >> 32));
    const __m128i cross = _mm_add_epi64(_mm_mul_epu32(_mm_srli_epi64(a, 32), low), _mm_mul_epu32(a, high));
    return _mm_add_epi64(_mm_mul_epu32(a, low), _mm_slli_epi64(cross, 32));
  }
  // random_bits(seed, first .. first + 1)
  __m128i hash(uint64_t first) const {
    constexpr uint64_t kStep = 0x9E3779B97F4A7C15ull;
    const uint64_t start = dropout_.seed + (first + 1) * kStep;
    __m128i z = _mm_set_epi64x(static_cast<int64_t>(start + kStep), static_cast<int64_t>(start));
    z = multiply(_mm_xor_si128(z, _mm_srli_epi64(z, 30)), 0xBF58476D1CE4E5B9ull);
    z = multiply(_mm_xor_si128(z, _mm_srli_epi64(z, 27)), 0x94D049BB133111EBull);
    return _mm_xor_si128(z, _mm_srli_epi64(z, 31));
  }
#endif

  Dropout dropout_;
};

}  // namespace usmlite::cpu::USMLITE_ISA
