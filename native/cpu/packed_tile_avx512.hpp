// Register tiles of whole-number products for AVX-512 VNNI: vpdpbusd sums four products of unsigned activations and
// signed weights in 32 bits, so codes of any width are taken as they are and nothing can saturate.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "codec/packed_matrix.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

using codec::PackedMatrix;
using codec::PackedOrder;

inline constexpr int64_t kLargestTileRows = 14;  // accumulators of 16 channels; the rest of 32 for weights and inputs
// Fewer rows than this cannot hide vpdpbusd's latency behind each other: each unit of a window gets its own accumulator.
inline constexpr int64_t kFewRows = 4;
/// Distance between the sums of two rows.
inline constexpr int64_t kSumStride = 64;

inline bool is_gather(const PackedMatrix& matrix) {
  return matrix.order() == PackedOrder::kGather4 || matrix.order() == PackedOrder::kGather8;
}
inline int64_t tile_rows(const PackedMatrix&) { return kLargestTileRows; }
inline int64_t expanded_bytes(const PackedMatrix& matrix) {
  return matrix.windows() * matrix.units() * PackedMatrix::kUnitBytes * (is_gather(matrix) ? 2 : 1);
}

inline __m512i load(const void* from) { return _mm512_loadu_si512(from); }
inline void store(void* to, __m512i value) { _mm512_storeu_si512(to, value); }
inline __m512i low_nibbles(__m512i bytes) { return _mm512_and_si512(bytes, _mm512_set1_epi8(15)); }
inline __m512i high_nibbles(__m512i bytes) { return low_nibbles(_mm512_srli_epi16(bytes, 4)); }
inline __m512i less_8(__m512i bytes) { return _mm512_sub_epi8(bytes, _mm512_set1_epi8(8)); }

// Dense: unit after unit, 64 bytes each. Gathered: for every unit its codes, then their inputs.
inline const uint8_t* expand_panel(const PackedMatrix& matrix, int64_t panel, uint8_t* to) {
  const uint8_t* codes = matrix.codes(panel);
  const uint8_t* inputs = matrix.inputs(panel);
  const int64_t unit_count = matrix.windows() * matrix.units();
  if (matrix.order() == PackedOrder::kDense8) return codes;
  for (int64_t unit = 0; unit < unit_count; ++unit) {
    if (matrix.order() == PackedOrder::kDense4) {
      const __m512i pair = load(codes + unit / 2 * 64);
      store(to + unit * 64, less_8(unit % 2 ? high_nibbles(pair) : low_nibbles(pair)));
    } else if (matrix.order() == PackedOrder::kGather4) {
      const __m512i own = load(codes + unit * 64);
      store(to + unit * 128, less_8(high_nibbles(own)));
      store(to + unit * 128 + 64, low_nibbles(own));
    } else {
      const __m512i pair = load(inputs + unit / 2 * 64);
      store(to + unit * 128, load(codes + unit * 64));
      store(to + unit * 128 + 64, unit % 2 ? high_nibbles(pair) : low_nibbles(pair));
    }
  }
  return to;
}

// sums (tiles * Rows, 16 of kSumStride) = a (tiles * Rows, windows) . w. Out of line, so that the sums have all registers.
template <int64_t Rows>
[[gnu::noinline]] void multiply_dense(int64_t tiles, const uint8_t* a, int64_t lda, const uint8_t* w, int64_t windows,
                                      int32_t* sums) {
  constexpr int64_t kUnits = 4, kParts = Rows < kFewRows ? kUnits : 1;
  for (; tiles > 0; --tiles, a += Rows * lda, sums += Rows * kSumStride) {
    const uint8_t* inputs = a;
    const uint8_t* next = w;
    __m512i sum[Rows][kParts];
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (int64_t part = 0; part < kParts; ++part) sum[r][part] = _mm512_setzero_si512();
    }
    for (int64_t window = 0; window < windows; ++window) {
#pragma GCC unroll 4
      for (int64_t unit = 0; unit < kUnits; ++unit, next += 64, inputs += 4) {
        const __m512i codes = load(next);
#pragma GCC unroll 16
        for (int64_t r = 0; r < Rows; ++r) {
          int32_t four;
          std::memcpy(&four, inputs + r * lda, 4);
          __m512i& total = sum[r][unit % kParts];
          total = _mm512_dpbusd_epi32(total, _mm512_set1_epi32(four), codes);
        }
      }
    }
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (int64_t part = 1; part < kParts; ++part) sum[r][0] = _mm512_add_epi32(sum[r][0], sum[r][part]);
      store(sums + r * kSumStride, sum[r][0]);
    }
  }
}

// The same for gathered codes: for each channel vpshufb picks the activations that its codes multiply out of the 16 of a
// window.
template <int64_t Rows, int64_t Units>
[[gnu::noinline]] void multiply_gathered(int64_t tiles, const uint8_t* a, int64_t lda, const uint8_t* w, int64_t windows,
                                         int32_t* sums) {
  constexpr int64_t kParts = Rows < kFewRows ? Units : 1;
  for (; tiles > 0; --tiles, a += Rows * lda, sums += Rows * kSumStride) {
    const uint8_t* inputs = a;
    const uint8_t* next = w;
    __m512i sum[Rows][kParts];
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
      for (int64_t part = 0; part < kParts; ++part) sum[r][part] = _mm512_setzero_si512();
    }
    for (int64_t window = 0; window < windows; ++window, next += Units * 128, inputs += PackedMatrix::kWindow) {
      const __m512i codes0 = load(next), places0 = load(next + 64);
      const __m512i codes1 = load(next + (Units - 1) * 128), places1 = load(next + (Units - 1) * 128 + 64);
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) {
        const __m512i x = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(inputs + r * lda)));
        sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], _mm512_shuffle_epi8(x, places0), codes0);
        if constexpr (Units == 2) {
          __m512i& total = sum[r][kParts - 1];
          total = _mm512_dpbusd_epi32(total, _mm512_shuffle_epi8(x, places1), codes1);
        }
      }
    }
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) {
      store(sums + r * kSumStride, kParts == 2 ? _mm512_add_epi32(sum[r][0], sum[r][kParts - 1]) : sum[r][0]);
    }
  }
}

// Any number of rows: full tiles, then one with the rows that are left.
template <int64_t Rows = kLargestTileRows>
void multiply_rows(const PackedMatrix& matrix, int64_t rows, const uint8_t* a, int64_t lda, const uint8_t* w,
                   int64_t windows, int32_t* sums) {
  const int64_t tiles = rows / Rows, done = tiles * Rows;
  if (tiles > 0) {
    if (!is_gather(matrix)) multiply_dense<Rows>(tiles, a, lda, w, windows, sums);
    else if (matrix.units() == 1) multiply_gathered<Rows, 1>(tiles, a, lda, w, windows, sums);
    else multiply_gathered<Rows, 2>(tiles, a, lda, w, windows, sums);
  }
  if constexpr (Rows > 1) {
    if (rows > done) {
      multiply_rows<Rows - 1>(matrix, rows - done, a + done * lda, lda, w, windows, sums + done * kSumStride);
    }
  }
}

/// sums (rows, 16 of kSumStride) = a (rows, windows of a scale group) . panel. Runs are not needed: 32 bits hold any sum.
inline void multiply_group(const PackedMatrix& matrix, int64_t, int64_t group, int64_t&, int64_t rows, const uint8_t* a,
                           int64_t lda, const uint8_t* expanded, int32_t* sums) {
  const int64_t window = group * matrix.windows_per_scale();
  const int64_t windows = std::min(matrix.windows_per_scale(), matrix.windows() - window);
  const uint8_t* w = expanded + window * matrix.units() * (is_gather(matrix) ? 128 : 64);
  multiply_rows(matrix, rows, a + window * PackedMatrix::kWindow, lda, w, windows, sums);
}

/// float(products[i] - offsets[i])
inline Vector products_to_float(const int32_t* products, const int32_t* offsets) {
  return {_mm512_cvtepi32_ps(_mm512_sub_epi32(load(products), load(offsets)))};
}

/// The bits of the largest |x|: as whole numbers they are in the order of the magnitudes, NaN above infinity.
inline int32_t largest_magnitude_bits(const float* x, int64_t count) {
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  __m512i largest = _mm512_setzero_si512();
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    const __m512i bits = _mm512_castps_si512(Vector::load(x + i, lanes).value);
    largest = _mm512_max_epi32(largest, _mm512_and_si512(bits, magnitude));
  });
  return _mm512_reduce_max_epi32(largest);
}

/// 16 floats, scaled, rounded to nearest with ties to even, as bytes plus 128; `count` of them are read, the others are
/// zeros. Scaled values must lie within -128..127.
inline void store_codes(const float* x, int64_t count, Vector scale, uint8_t* to) {
  const Vector values = Vector::load(x, std::clamp<int64_t>(count, 0, 16)) * scale;
  const __m128i bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(values.value));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_xor_si128(bytes, _mm_set1_epi8(-128)));
}

inline constexpr int64_t kCodesAtOnce = 16;

}  // namespace usmlite::cpu::USMLITE_ISA
