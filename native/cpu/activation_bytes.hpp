// Measuring activations and turning them into bytes, with either width of vectors.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

#if defined(__AVX512F__)

/// The bits of the largest |x|: as whole numbers they are in the order of the magnitudes, NaN above infinity.
inline int32_t largest_magnitude_bits(const float* x, int64_t count) {
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  __m512i largest[4] = {};
  const auto take = [&](int64_t i, int64_t lanes, __m512i& most) {
    most = _mm512_max_epi32(most, _mm512_and_si512(_mm512_castps_si512(Vector::load(x + i, lanes).value), magnitude));
  };
  int64_t i = 0;
  for (; i + 64 <= count; i += 64) {
#pragma GCC unroll 4
    for (int64_t part = 0; part < 4; ++part) take(i + 16 * part, 16, largest[part]);
  }
  for_each_vector(count - i, [&](int64_t rest, int64_t lanes) { take(i + rest, lanes, largest[0]); });
  return _mm512_reduce_max_epi32(_mm512_max_epi32(_mm512_max_epi32(largest[0], largest[1]), _mm512_max_epi32(largest[2], largest[3])));
}

/// 16 whole numbers as signed bytes.
inline __m128i to_bytes(const Vector* values) { return _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(values[0].value)); }
/// sum += each four of 16 signed bytes
inline __m128i add_bytes(__m128i sum, __m128i bytes) { return _mm_dpbusd_epi32(sum, _mm_set1_epi8(1), bytes); }

#else

/// The bits of the largest |x|: as whole numbers they are in the order of the magnitudes, NaN above infinity.
inline int32_t largest_magnitude_bits(const float* x, int64_t count) {
  const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
  __m256i largest[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  const auto take = [&](int64_t i, int64_t lanes, __m256i& most) {
    const __m256i bits = _mm256_castps_si256(Vector::load(x + i, lanes).value);
    most = _mm256_max_epi32(most, _mm256_and_si256(bits, magnitude));
  };
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    take(i, 8, largest[0]);
    take(i + 8, 8, largest[1]);
  }
  for_each_vector(count - i, [&](int64_t rest, int64_t lanes) { take(i + rest, lanes, largest[0]); });
  alignas(32) int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), _mm256_max_epi32(largest[0], largest[1]));
  return *std::max_element(lanes, lanes + 8);
}

/// 16 whole numbers as signed bytes.
inline __m128i to_bytes(const Vector* values) {
  const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(values[0].value), _mm256_cvtps_epi32(values[1].value));
  // Packing works within halves of 128 bits: four numbers at a time end up in the order 0 2 1 3.
  const __m256i ordered = _mm256_permute4x64_epi64(words, 0xD8);
  return _mm_packs_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
}
/// sum += each four of 16 signed bytes
inline __m128i add_bytes(__m128i sum, __m128i bytes) {
  const __m128i pairs = _mm_maddubs_epi16(_mm_set1_epi8(1), bytes);
  return _mm_add_epi32(sum, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
}

#endif

}  // namespace usmlite::cpu::USMLITE_ISA
