// Register tiles of whole-number products for AVX2, with or without AVX-VNNI.
//
// With it vpdpbusd sums four products of unsigned and signed bytes in 32 bits. Without it vpmaddubsw sums two in 16, which
// holds several sums of weights of at most four bits before they must be widened; larger weights are multiplied as
// |w| * sign(w) x, whose sum of two just fits (2 * 128 * 127 < 2^15), and widened each time.
#pragma once
#include "cpu/packed_expand_avx2.hpp"
#include "cpu/quantized_rows.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// Keeps the compiler from moving work on one row of a tile in front of another's: it would run out of registers and
/// keep sums in memory.
inline __m256i in_order(__m256i sum) { asm volatile("" : "+x"(sum)); return sum; }

/// to = sum, or += sum
inline void put_sums(int32_t* to, __m256i sum, bool add) { store(to, add ? _mm256_add_epi32(load(to), sum) : sum); }

inline __m256i four_inputs(const uint8_t* x) {
  int32_t four;
  std::memcpy(&four, x, 4);
  return _mm256_set1_epi32(four);
}

/// sum += products of unsigned `a` and signed `b`: in 32 bits with VNNI, else in 16.
inline __m256i multiply_into(__m256i sum, __m256i a, __m256i b) {
#if defined(__AVXVNNI__)
  return _mm256_dpbusd_avx_epi32(sum, a, b);
#else
  return _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, b));
#endif
}
inline __m256i widened(__m256i sum) { return kVnni ? sum : _mm256_madd_epi16(sum, _mm256_set1_epi16(1)); }

// sums (Rows, 16 of 32) = or, where `add` says so, += x (windows, Rows, 16) . one panel of unsigned bytes, for as many windows as 16 bits
// hold the sums of. Out of line, so that the sums have all registers; one run at a time, or GCC would keep them in memory.
template <int64_t Rows>
[[gnu::noinline]] void multiply_small(const uint8_t* x, const uint8_t* w, int64_t windows, int32_t* sums, bool add) {
  __m256i sum[Rows][2];
#pragma GCC unroll 16
  for (int64_t r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
  for (; windows > 0; --windows, x += Rows * 16, w += 256) {
#pragma GCC unroll 1
    for (int64_t unit = 0; unit < 4; ++unit) {
      const __m256i w0 = load(w + unit * 64), w1 = load(w + unit * 64 + 32);
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) {
        const __m256i inputs = four_inputs(x + r * 16 + unit * 4);
        sum[r][0] = in_order(multiply_into(sum[r][0], w0, inputs));
        sum[r][1] = in_order(multiply_into(sum[r][1], w1, inputs));
      }
    }
  }
#pragma GCC unroll 16
  for (int64_t r = 0; r < Rows; ++r) {
    put_sums(sums + r * kPairChannels, widened(sum[r][0]), add);
    put_sums(sums + r * kPairChannels + 8, widened(sum[r][1]), add);
  }
}

// The same for signed bytes, without VNNI.
template <int64_t Rows>
[[gnu::noinline]] void multiply_bytes(const uint8_t* x, const uint8_t* w, int64_t windows, int32_t* sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sum[Rows][2];
#pragma GCC unroll 16
  for (int64_t r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
  for (; windows > 0; --windows, x += Rows * 16, w += 256) {
    for (int64_t unit = 0; unit < 4; ++unit) {
      const __m256i w0 = load(w + unit * 64), w1 = load(w + unit * 64 + 32);
      const __m256i size0 = _mm256_abs_epi8(w0), size1 = _mm256_abs_epi8(w1);
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) {
        const __m256i inputs = four_inputs(x + r * 16 + unit * 4);
        const __m256i pairs0 = _mm256_maddubs_epi16(size0, _mm256_sign_epi8(inputs, w0));
        const __m256i pairs1 = _mm256_maddubs_epi16(size1, _mm256_sign_epi8(inputs, w1));
        const __m256i sum0 = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(pairs0, ones));
        const __m256i sum1 = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(pairs1, ones));
        sum[r][0] = in_order(sum0);
        sum[r][1] = in_order(sum1);
      }
    }
  }
#pragma GCC unroll 16
  for (int64_t r = 0; r < Rows; ++r) {
    store(sums + r * kPairChannels, sum[r][0]);
    store(sums + r * kPairChannels + 8, sum[r][1]);
  }
}

// sums (Rows, 8 of 32) = x . one half of the channels of a gathered panel: for each channel vpshufb picks the activations
// that its codes multiply out of the 16 of a window. kOnes: all codes that are kept count as one.
template <int64_t Rows, int64_t Units, bool kOnes>
[[gnu::noinline]] void multiply_gathered(const uint8_t* x, const uint8_t* w, int64_t windows, int32_t* sums, bool add) {
  __m256i sum[Rows];
#pragma GCC unroll 16
  for (int64_t r = 0; r < Rows; ++r) sum[r] = _mm256_setzero_si256();
  for (; windows > 0; --windows, x += Rows * 16) {
#pragma GCC unroll 2
    for (int64_t unit = 0; unit < Units; ++unit, w += 128) {
      asm volatile("" : "+r"(x));  // inputs are loaded again for each unit: registers are for sums
      const __m256i codes = kOnes ? _mm256_set1_epi8(1) : load(w), places = load(w + 64);
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) {
        const __m256i inputs = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + r * 16)));
        sum[r] = in_order(multiply_into(sum[r], _mm256_shuffle_epi8(inputs, places), codes));
      }
    }
  }
#pragma GCC unroll 16
  for (int64_t r = 0; r < Rows; ++r) put_sums(sums + r * kPairChannels, widened(sum[r]), add);
}

}  // namespace usmlite::cpu::USMLITE_ISA
