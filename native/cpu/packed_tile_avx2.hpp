// Register tiles of whole-number products for AVX2. Activations are unsigned bytes, weights signed ones of at most four
// bits, so vpmaddubsw's sums of two products need 13 bits and many of them can be added in 16 before they are widened:
// PackedMatrix::runs() says after how many windows, from the weights themselves, so nothing can saturate.
// Codes of more than four bits are two factors, 16 * high + low, multiplied one after the other.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "codec/packed_matrix.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

using codec::PackedMatrix;
using codec::PackedOrder;

inline constexpr int64_t kDenseTileRows = 6;    // x 16 channels: 12 accumulators, 2 of weights, activations, product
inline constexpr int64_t kGatherTileRows = 10;  // x 8 channels: 10 accumulators, 2 of weights, 2 of inputs, ..
inline constexpr int64_t kLargestTileRows = 10;
/// Windows multiplied by all rows before the next ones are.
inline constexpr int64_t kWindowsPerBlock = 64;
/// Distance between the sums of two rows.
inline constexpr int64_t kSumStride = 64;

inline bool is_gather(const PackedMatrix& matrix) {
  return matrix.order() == PackedOrder::kGather4 || matrix.order() == PackedOrder::kGather8;
}
inline int64_t tile_rows(const PackedMatrix& matrix) { return is_gather(matrix) ? kGatherTileRows : kDenseTileRows; }
inline int64_t plane_count(const PackedMatrix& matrix) { return matrix.spec().bits > 4 ? 2 : 1; }
/// Bytes of one panel of one plane, expanded.
inline int64_t plane_bytes(const PackedMatrix& matrix) {
  return matrix.windows() * matrix.units() * PackedMatrix::kUnitBytes * (is_gather(matrix) ? 2 : 1);
}
inline int64_t expanded_bytes(const PackedMatrix& matrix) { return plane_count(matrix) * plane_bytes(matrix); }

inline __m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void store(void* to, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }
inline __m256i low_nibbles(__m256i bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi8(15)); }
inline __m256i high_nibbles(__m256i bytes) { return low_nibbles(_mm256_srli_epi16(bytes, 4)); }
inline __m256i less_8(__m256i bytes) { return _mm256_sub_epi8(bytes, _mm256_set1_epi8(8)); }
/// codec::low_part and codec::high_part of every byte.
inline __m256i low_parts(__m256i codes) { return less_8(_mm256_xor_si256(low_nibbles(codes), _mm256_set1_epi8(8))); }
inline __m256i high_parts(__m256i codes) {
  const __m256i carry = _mm256_and_si256(_mm256_srli_epi16(codes, 3), _mm256_set1_epi8(1));
  return _mm256_add_epi8(less_8(high_nibbles(_mm256_xor_si256(codes, _mm256_set1_epi8(-128)))), carry);
}

// Dense: unit after unit, 64 bytes each; a matrix of two planes has the low parts first, then the high ones.
inline void expand_dense(const PackedMatrix& matrix, const uint8_t* codes, uint8_t* to) {
  const int64_t bytes = plane_bytes(matrix);
  if (matrix.order() == PackedOrder::kDense4) {
    for (int64_t i = 0; i < bytes; i += 128, codes += 64) {
      for (int64_t half = 0; half < 64; half += 32) {
        const __m256i pair = load(codes + half);
        store(to + i + half, less_8(low_nibbles(pair)));
        store(to + i + half + 64, less_8(high_nibbles(pair)));
      }
    }
    return;
  }
  for (int64_t i = 0; i < bytes; i += 32) {
    const __m256i own = load(codes + i);
    store(to + i, low_parts(own));
    store(to + bytes + i, high_parts(own));
  }
}

// Gathered: per plane and half of the channels, for every window the codes of its units, 32 bytes each, then the places
// of their inputs.
template <int64_t Units>
void expand_gather(const PackedMatrix& matrix, const uint8_t* codes, const uint8_t* inputs, uint8_t* to) {
  constexpr int64_t kWindowBytes = Units * 64;
  const int64_t half_bytes = matrix.windows() * kWindowBytes, plane = plane_bytes(matrix);
  const bool four_bits = matrix.order() == PackedOrder::kGather4;
  for (int64_t window = 0; window < matrix.windows(); ++window, to += kWindowBytes) {
    for (int64_t unit = 0; unit < Units; ++unit, codes += 64) {
      const int64_t pair = window * Units + unit;
      for (int64_t half = 0; half < 2; ++half) {
        const __m256i own = load(codes + half * 32);
        uint8_t* out = to + half * half_bytes + unit * 32;
        if (four_bits) {
          store(out, less_8(high_nibbles(own)));
          store(out + Units * 32, low_nibbles(own));
        } else {
          const __m256i both = load(inputs + pair / 2 * 64 + half * 32);
          const __m256i places = pair % 2 ? high_nibbles(both) : low_nibbles(both);
          store(out, low_parts(own));
          store(out + Units * 32, places);
          store(out + plane, high_parts(own));
          store(out + plane + Units * 32, places);
        }
      }
    }
  }
}

inline const uint8_t* expand_panel(const PackedMatrix& matrix, int64_t panel, uint8_t* to) {
  const uint8_t* codes = matrix.codes(panel);
  if (!is_gather(matrix)) expand_dense(matrix, codes, to);
  else if (matrix.units() == 1) expand_gather<1>(matrix, codes, matrix.inputs(panel), to);
  else expand_gather<2>(matrix, codes, matrix.inputs(panel), to);
  return to;
}

/// Keeps the compiler from moving work on one row of a tile in front of another's: it would run out of registers and
/// keep sums in memory.
inline void finish_before_next(__m256i& sum) { asm volatile("" : "+x"(sum)); }

/// to = sum, or += sum
inline void put_sums(int32_t* to, __m256i sum, bool add) { store(to, add ? _mm256_add_epi32(load(to), sum) : sum); }

/// Some of the windows of a panel, and the runs that cover them.
struct Span {
  const uint16_t* runs;
  int64_t run_count;
};

// sums (tiles * Rows, 16 of kSumStride) = or += a (tiles * Rows, windows of the span) . w. Out of line, so that the sums
// have all registers.
template <int64_t Rows>
[[gnu::noinline]] void multiply_dense(int64_t tiles, const uint8_t* a, int64_t lda, const uint8_t* w, Span span, bool add,
                                      int32_t* sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (; tiles > 0; --tiles, a += Rows * lda, sums += Rows * kSumStride) {
    const uint8_t* inputs = a;
    const uint8_t* codes = w;
    bool added = add;
    for (int64_t run = 0; run < span.run_count; ++run) {
      __m256i sum[Rows][2];
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
      const uint8_t* const end = codes + span.runs[run] * int64_t{256};
      for (; codes != end; codes += 64, inputs += 4) {
        const __m256i w0 = load(codes), w1 = load(codes + 32);
#pragma GCC unroll 16
        for (int64_t r = 0; r < Rows; ++r) {
          int32_t four;
          std::memcpy(&four, inputs + r * lda, 4);
          const __m256i x = _mm256_set1_epi32(four);
          sum[r][0] = _mm256_add_epi16(sum[r][0], _mm256_maddubs_epi16(x, w0));
          sum[r][1] = _mm256_add_epi16(sum[r][1], _mm256_maddubs_epi16(x, w1));
          finish_before_next(sum[r][0]);
          finish_before_next(sum[r][1]);
        }
      }
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) {
        put_sums(sums + r * kSumStride, _mm256_madd_epi16(sum[r][0], ones), added);
        put_sums(sums + r * kSumStride + 8, _mm256_madd_epi16(sum[r][1], ones), added);
      }
      added = true;
    }
  }
}

// sums (tiles * Rows, 8 of kSumStride) = or += the gathered products of one half of the channels: for each channel vpshufb
// picks the activations that its codes multiply out of the 16 of a window.
template <int64_t Rows, int64_t Units>
[[gnu::noinline]] void multiply_gathered(int64_t tiles, const uint8_t* a, int64_t lda, const uint8_t* w, Span span,
                                         bool add, int32_t* sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (; tiles > 0; --tiles, a += Rows * lda, sums += Rows * kSumStride) {
    const uint8_t* inputs = a;
    const uint8_t* codes = w;
    bool added = add;
    for (int64_t run = 0; run < span.run_count; ++run) {
      __m256i sum[Rows];
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) sum[r] = _mm256_setzero_si256();
      const uint8_t* const end = codes + span.runs[run] * (Units * 64);
      for (; codes != end; codes += Units * 64, inputs += PackedMatrix::kWindow) {
        const __m256i w0 = load(codes), places0 = load(codes + Units * 32);
        const __m256i w1 = load(codes + (Units - 1) * 32), places1 = load(codes + (2 * Units - 1) * 32);
#pragma GCC unroll 16
        for (int64_t r = 0; r < Rows; ++r) {
          const __m256i x = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(inputs + r * lda)));
          sum[r] = _mm256_add_epi16(sum[r], _mm256_maddubs_epi16(_mm256_shuffle_epi8(x, places0), w0));
          if constexpr (Units == 2) {
            sum[r] = _mm256_add_epi16(sum[r], _mm256_maddubs_epi16(_mm256_shuffle_epi8(x, places1), w1));
          }
          finish_before_next(sum[r]);
        }
      }
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) {
        put_sums(sums + r * kSumStride, _mm256_madd_epi16(sum[r], ones), added);
      }
      added = true;
    }
  }
}

template <int64_t Rows>
void multiply_tiles(const PackedMatrix& matrix, int64_t tiles, const uint8_t* a, int64_t lda, const uint8_t* plane,
                    int64_t window, Span span, bool add, int32_t* sums) {
  a += window * PackedMatrix::kWindow;
  if constexpr (Rows <= kDenseTileRows) {
    if (!is_gather(matrix)) return multiply_dense<Rows>(tiles, a, lda, plane + window * 256, span, add, sums);
  }
  const int64_t window_bytes = matrix.units() * 64;
  for (int64_t half = 0; half < 2; ++half) {
    const uint8_t* w = plane + (half * matrix.windows() + window) * window_bytes;
    if (matrix.units() == 1) multiply_gathered<Rows, 1>(tiles, a, lda, w, span, add, sums + 8 * half);
    else multiply_gathered<Rows, 2>(tiles, a, lda, w, span, add, sums + 8 * half);
  }
}

// Any number of rows: full tiles, then one with the rows that are left.
template <int64_t Rows = kLargestTileRows>
void multiply_rows(const PackedMatrix& matrix, int64_t rows, const uint8_t* a, int64_t lda, const uint8_t* plane,
                   int64_t window, Span span, bool add, int32_t* sums) {
  const int64_t tiles = Rows <= tile_rows(matrix) ? rows / Rows : 0, done = tiles * Rows;
  if (tiles > 0) multiply_tiles<Rows>(matrix, tiles, a, lda, plane, window, span, add, sums);
  if constexpr (Rows > 1) {
    if (rows > done) {
      multiply_rows<Rows - 1>(matrix, rows - done, a + done * lda, lda, plane, window, span, add, sums + done * kSumStride);
    }
  }
}

/// sums (rows, 16 of kSumStride) = a (rows, windows of a scale group) . panel. `run` is the first run of the group and
/// becomes that of the next.
inline void multiply_group(const PackedMatrix& matrix, int64_t panel, int64_t group, int64_t& run, int64_t rows,
                           const uint8_t* a, int64_t lda, const uint8_t* expanded, int32_t* sums) {
  const auto runs = matrix.runs(panel);
  const int64_t begin = group * matrix.windows_per_scale(), end = std::min(begin + matrix.windows_per_scale(), matrix.windows());
  const int64_t first_run = run;
  bool add = false;
  for (int64_t plane = plane_count(matrix) - 1; plane >= 0; --plane) {
    run = first_run;
    for (int64_t window = begin; window < end;) {
      // Blocks of windows small enough to stay in the first-level cache while all rows go by.
      Span span{runs.data() + run, 0};
      int64_t windows = 0;
      for (; windows < kWindowsPerBlock && window + windows < end; ++run) {
        windows += runs[run];
        ++span.run_count;
      }
      multiply_rows(matrix, rows, a, lda, expanded + plane * plane_bytes(matrix), window, span, add, sums);
      window += windows;
      add = true;
    }
    if (plane == 0) continue;
    for (int64_t r = 0; r < rows; ++r) {  // the sums of the high parts so far
      for (int32_t* to = sums + r * kSumStride; to < sums + r * kSumStride + 16; to += 8) store(to, _mm256_slli_epi32(load(to), 4));
    }
  }
}

/// float(products[i] - offsets[i])
inline Vector products_to_float(const int32_t* products, const int32_t* offsets) {
  return {_mm256_cvtepi32_ps(_mm256_sub_epi32(load(products), load(offsets)))};
}

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
  store(lanes, _mm256_max_epi32(largest[0], largest[1]));
  return *std::max_element(lanes, lanes + 8);
}

/// 32 floats, scaled, rounded to nearest with ties to even, as bytes plus 128; `count` of them are read, the others are
/// zeros. Scaled values must lie within -128..127.
inline void store_codes(const float* x, int64_t count, Vector scale, uint8_t* to) {
  __m256i wide[4];
#pragma GCC unroll 4
  for (int64_t i = 0; i < 4; ++i) {
    const Vector part = count >= 32 ? Vector::load(x + 8 * i) : Vector::load(x + 8 * i, std::clamp<int64_t>(count - 8 * i, 0, 8));
    wide[i] = _mm256_cvtps_epi32((part * scale).value);
  }
  // Packing works within halves of 128 bits: four codes at a time end up in the order 0 2 4 6 1 3 5 7.
  const __m256i words0 = _mm256_packs_epi32(wide[0], wide[1]), words1 = _mm256_packs_epi32(wide[2], wide[3]);
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words0, words1), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  store(to, _mm256_xor_si256(bytes, _mm256_set1_epi8(-128)));
}

inline constexpr int64_t kCodesAtOnce = 32;

}  // namespace usmlite::cpu::USMLITE_ISA
