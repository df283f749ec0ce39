// Packing: the rows of op(a) or the columns of op(b) that one register tile multiplies, rearranged so that the tile
// reads consecutive memory. A panel of `width` vectors holds element k of all of them next to each other.
#pragma once
#include <algorithm>

#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// The rows of a stored matrix, `stride` apart or each with a start of its own.
struct Rows {
  const float* base;
  int64_t stride;
  const int64_t* starts;  // may be null
  const float* operator[](int64_t i) const { return base + (starts ? starts[i] : i * stride); }
};

/// Eight rows of eight floats become eight columns: out[i * stride + r] = rows[r][i]. Rows from `count` on are
/// repetitions of the last one.
inline void transpose_8x8(const float* const rows[8], float* out, int64_t stride) {
  // Two rows four apart share a register from the start, so no shuffle has to cross 128-bit halves afterwards.
  const auto pair = [&](int low, int offset) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(rows[low] + offset)),
                                _mm_loadu_ps(rows[low + 4] + offset), 1);
  };
  for (int half = 0; half < 2; ++half) {
    const __m256 r0 = pair(0, 4 * half), r1 = pair(1, 4 * half), r2 = pair(2, 4 * half), r3 = pair(3, 4 * half);
    const __m256 t0 = _mm256_unpacklo_ps(r0, r1), t1 = _mm256_unpackhi_ps(r0, r1);
    const __m256 t2 = _mm256_unpacklo_ps(r2, r3), t3 = _mm256_unpackhi_ps(r2, r3);
    float* to = out + 4 * half * stride;
    _mm256_storeu_ps(to, _mm256_shuffle_ps(t0, t2, _MM_SHUFFLE(1, 0, 1, 0)));
    _mm256_storeu_ps(to + stride, _mm256_shuffle_ps(t0, t2, _MM_SHUFFLE(3, 2, 3, 2)));
    _mm256_storeu_ps(to + 2 * stride, _mm256_shuffle_ps(t1, t3, _MM_SHUFFLE(1, 0, 1, 0)));
    _mm256_storeu_ps(to + 3 * stride, _mm256_shuffle_ps(t1, t3, _MM_SHUFFLE(3, 2, 3, 2)));
  }
}

#if defined(__AVX512F__)
/// Sixteen rows of sixteen floats, `stride` apart, become sixteen columns: lane r of columns[i] = rows[r * stride + i].
inline void transpose_16x16(const float* rows, int64_t stride, Vector columns[16]) {
  __m512 pairs[16], fours[16];
#pragma GCC unroll 8
  for (int r = 0; r < 16; r += 2) {
    const __m512 even = _mm512_loadu_ps(rows + r * stride), odd = _mm512_loadu_ps(rows + (r + 1) * stride);
    pairs[r] = _mm512_unpacklo_ps(even, odd);
    pairs[r + 1] = _mm512_unpackhi_ps(even, odd);
  }
  // fours[r + i]: element 4 * quarter + i of rows r..r+3, in each quarter of the register.
#pragma GCC unroll 4
  for (int r = 0; r < 16; r += 4) {
    fours[r] = _mm512_shuffle_ps(pairs[r], pairs[r + 2], _MM_SHUFFLE(1, 0, 1, 0));
    fours[r + 1] = _mm512_shuffle_ps(pairs[r], pairs[r + 2], _MM_SHUFFLE(3, 2, 3, 2));
    fours[r + 2] = _mm512_shuffle_ps(pairs[r + 1], pairs[r + 3], _MM_SHUFFLE(1, 0, 1, 0));
    fours[r + 3] = _mm512_shuffle_ps(pairs[r + 1], pairs[r + 3], _MM_SHUFFLE(3, 2, 3, 2));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512 low0 = _mm512_shuffle_f32x4(fours[i], fours[i + 4], 0x44), high0 = _mm512_shuffle_f32x4(fours[i], fours[i + 4], 0xEE);
    const __m512 low1 = _mm512_shuffle_f32x4(fours[i + 8], fours[i + 12], 0x44), high1 = _mm512_shuffle_f32x4(fours[i + 8], fours[i + 12], 0xEE);
    columns[i] = {_mm512_shuffle_f32x4(low0, low1, 0x88)};
    columns[i + 4] = {_mm512_shuffle_f32x4(low0, low1, 0xDD)};
    columns[i + 8] = {_mm512_shuffle_f32x4(high0, high1, 0x88)};
    columns[i + 12] = {_mm512_shuffle_f32x4(high0, high1, 0xDD)};
  }
}

/// Sixteen rows, soon to be transposed; they are far apart, and more than the processor follows by itself.
inline void prefetch_rows(const float* rows, int64_t stride) {
  constexpr int64_t kAhead = 64;  // floats
#pragma GCC unroll 16
  for (int64_t i = 0; i < 16; ++i) _mm_prefetch(reinterpret_cast<const char*>(rows + i * stride + kAhead), _MM_HINT_T0);
}
#endif

/// Floats that packing a panel may write behind its last element.
inline constexpr int64_t kPanelSlack = 16;

/// One panel of vectors that are parts of rows: out[k * width + i] = rows[first + i][k0 + k] for k < depth, i < count;
/// i in count..width-1 repeats the last vector. Writes up to kPanelSlack floats more.
inline void pack_contiguous_vectors(const Rows& rows, int64_t first, int64_t count, int64_t k0, int64_t depth,
                                    int64_t width, float* out) {
  const auto vector = [&](int64_t i) { return rows[first + std::min(i, count - 1)] + k0; };
#if defined(__AVX512F__)
  if (width % 16 == 0 && count == width && !rows.starts) {
    const int64_t tiles = depth / 16 * 16;
    for (int64_t group = 0; group < width; group += 16) {
      const float* from = vector(group);
      for (int64_t k = 0; k < tiles; k += 16, from += 16) {
        Vector columns[16];
        prefetch_rows(from, rows.stride);
        transpose_16x16(from, rows.stride, columns);
#pragma GCC unroll 16
        for (int64_t i = 0; i < 16; ++i) columns[i].store(out + (k + i) * width + group);
      }
    }
    for (int64_t k = tiles; k < depth; ++k) {
      for (int64_t i = 0; i < width; ++i) out[k * width + i] = vector(i)[k];
    }
    return;
  }
#endif
  const int64_t whole = depth / 8 * 8;
  // Eight vectors over the whole depth before the next eight: vectors a power of two apart share one set of the cache,
  // which has eight ways. Last group first: what it writes beyond `width` is overwritten by the groups before it.
  for (int64_t group = (width - 1) / 8 * 8; group >= 0; group -= 8) {
    const float* from[8];
    for (int64_t i = 0; i < 8; ++i) from[i] = vector(group + i);
    for (int64_t k = 0; k < whole; k += 8) {
      transpose_8x8(from, out + k * width + group, width);
      for (int64_t i = 0; i < 8; ++i) from[i] += 8;
    }
  }
  for (int64_t k = whole; k < depth; ++k) {
    for (int64_t i = 0; i < width; ++i) out[k * width + i] = vector(i)[k];
  }
}

/// Panels of `width` vectors that run across rows, `panel_stride` apart, the last one padded with zeros where `padded`,
/// else narrower: element k of vector i is rows[k0 + k][column + i]. `readable` (>= count) floats of every row may be
/// read from `column` on. Writes up to kPanelSlack floats behind every panel. Registers * kLanes >= width.
template <int Registers>
inline void pack_interleaved_vectors(const Rows& rows, int64_t column, int64_t count, int64_t readable, int64_t k0,
                                     int64_t depth, int64_t width, bool padded, int64_t panel_stride, float* out) {
  constexpr int64_t lanes = Vector::kLanes;
  constexpr int64_t kAhead = 8;  // rows are far apart, which the processor's own prefetching does not follow
  for (int64_t k = 0; k < depth; ++k) {
    const float* from = rows[k0 + k] + column;
    const char* ahead = reinterpret_cast<const char*>(rows[k0 + std::min(k + kAhead, depth - 1)] + column);
    for (int64_t i = 0; i < count; i += 16) _mm_prefetch(ahead + i * static_cast<int64_t>(sizeof(float)), _MM_HINT_T0);
    // What is stored beyond a panel's width belongs to its next k, which is written afterwards.
    float* panel = out;
    for (int64_t first = 0; first < count; first += width, panel += panel_stride) {
      const int64_t valid = std::min(width, count - first);
      float* to = panel + k * (padded ? width : valid);
      if (first + Registers * lanes <= readable) {
        for (int i = 0; i < Registers; ++i) Vector::load(from + first + i * lanes).store(to + i * lanes);
      } else {
        for (int i = 0; i < Registers; ++i) {
          Vector::load(from + first + i * lanes, std::clamp<int64_t>(valid - i * lanes, 0, lanes)).store(to + i * lanes);
        }
      }
    }
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
