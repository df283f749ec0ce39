// Products of small matrices of 16-bit whole numbers, with exact sums of 32 bits: twice as many products an instruction as of floats.
// Two neighbouring values of a row, and of a column, are multiplied and added at once: a pair is one lane of 32 bits.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

#if defined(__AVX512F__)

/// Lanes of two whole numbers of 16 bits, or of one of 32.
struct PairVector {
  __m512i value;

  static PairVector zero() { return {_mm512_setzero_si512()}; }
  static PairVector all(int32_t pair) { return {_mm512_set1_epi32(pair)}; }
  static PairVector load(const int32_t* from) { return {_mm512_loadu_si512(from)}; }
  /// The nearest whole numbers, ties to even.
  static PairVector nearest(Vector x) { return {_mm512_cvtps_epi32(x.value)}; }
  /// Pairs of the low halves of two vectors.
  static PairVector of(PairVector first, PairVector second) {
    return {_mm512_or_si512(_mm512_and_si512(first.value, _mm512_set1_epi32(0xffff)), _mm512_slli_epi32(second.value, 16))};
  }
  void store(int32_t* to) const { _mm512_storeu_si512(to, value); }
  /// The low halves, next to each other.
  void store_halves(int16_t* to) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(value)); }
  Vector floats() const { return {_mm512_cvtepi32_ps(value)}; }
};

inline PairVector operator+(PairVector a, PairVector b) { return {_mm512_add_epi32(a.value, b.value)}; }

/// sums += a.first * b.first + a.second * b.second. Compilers that reorder these run out of registers.
inline void add_products(PairVector a, PairVector b, PairVector& sums) {
  sums.value = _mm512_dpwssd_epi32(sums.value, a.value, b.value);
  asm volatile("" : "+v"(sums.value));
}

#elif defined(__AVX2__)

struct PairVector {
  __m256i value;

  static PairVector zero() { return {_mm256_setzero_si256()}; }
  static PairVector all(int32_t pair) { return {_mm256_set1_epi32(pair)}; }
  static PairVector load(const int32_t* from) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))}; }
  static PairVector nearest(Vector x) { return {_mm256_cvtps_epi32(x.value)}; }
  static PairVector of(PairVector first, PairVector second) {
    return {_mm256_or_si256(_mm256_and_si256(first.value, _mm256_set1_epi32(0xffff)), _mm256_slli_epi32(second.value, 16))};
  }
  void store(int32_t* to) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value); }
  void store_halves(int16_t* to) const {
    const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(value), _mm256_extracti128_si256(value, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), halves);
  }
  Vector floats() const { return {_mm256_cvtepi32_ps(value)}; }
};

inline PairVector operator+(PairVector a, PairVector b) { return {_mm256_add_epi32(a.value, b.value)}; }

inline void add_products(PairVector a, PairVector b, PairVector& sums) {
#if defined(__AVXVNNI__)
  sums.value = _mm256_dpwssd_avx_epi32(sums.value, a.value, b.value);
#else
  sums.value = _mm256_add_epi32(sums.value, _mm256_madd_epi16(a.value, b.value));
#endif
  asm volatile("" : "+x"(sums.value));
}

#endif

/// Columns of a panel of pairs. A (depth, columns) matrix is stored panel by panel, each (depth / 2, kPairPanel) pairs, zeros behind the
/// last column and the last row.
inline constexpr int kPairVectors = 2;
inline constexpr int64_t kPairPanel = kPairVectors * Vector::kLanes;
/// Rows of a register tile.
inline constexpr int kPairRows = Vector::kLanes == 16 ? 12 : 6;

inline int64_t whole_pair_panels(int64_t columns) { return (columns + kPairPanel - 1) / kPairPanel * kPairPanel; }

/// One product; c (rows, c_stride) is float32, row_scale * column_scale times the whole numbers, or has them added.
struct PairProduct {
  const int16_t* a;  // (rows, a_stride), of 2 * pairs whole numbers
  int64_t a_stride, rows, pairs;
  const int32_t* panels;
  int64_t panel_stride, columns;  // pairs from one panel to the next
  const float *row_scales, *column_scales;  // column scales for whole panels
  float* c;  // rows of whole panels
  int64_t c_stride;
  bool accumulate;
};

// Out of line, so that the sums have all registers.
template <int R, int V> [[gnu::noinline]] void pair_tile(const PairProduct& p, int64_t row, int64_t column, const int32_t* panel) {
  PairVector sums[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) sums[r][j] = PairVector::zero();
  }
  const int64_t stride = p.a_stride;
  const int16_t* a = p.a + row * stride;
  for (int64_t left = p.pairs; left > 0; --left, a += 2, panel += kPairPanel) {
    PairVector b[V];
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) b[j] = PairVector::load(panel + j * Vector::kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      int32_t pair;
      std::memcpy(&pair, a + r * stride, sizeof pair);
      const PairVector factor = PairVector::all(pair);
#pragma GCC unroll 2
      for (int j = 0; j < V; ++j) add_products(factor, b[j], sums[r][j]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const Vector row_scale = Vector::all(p.row_scales[row + r]);
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) {
      const int64_t at = column + j * Vector::kLanes;
      float* c = p.c + (row + r) * p.c_stride + at;
      const Vector scale = row_scale * Vector::load(p.column_scales + at), sum = sums[r][j].floats();
      (p.accumulate ? multiply_add(sum, scale, Vector::load(c)) : sum * scale).store(c);
    }
  }
}

template <int V, int R = kPairRows - 1> inline void pair_rest(const PairProduct& p, int64_t row, int64_t column, const int32_t* panel) {
  if constexpr (R > 0) {
    if (p.rows - row == R) return pair_tile<R, V>(p, row, column, panel);
    pair_rest<V, R - 1>(p, row, column, panel);
  }
}

template <int V> inline void pair_column(const PairProduct& p, int64_t column, const int32_t* panel) {
  int64_t row = 0;
  for (; row + kPairRows <= p.rows; row += kPairRows) pair_tile<kPairRows, V>(p, row, column, panel);
  pair_rest<V>(p, row, column, panel);
}

inline void multiply_pairs(const PairProduct& p) {
  const int32_t* panel = p.panels;
  for (int64_t column = 0; column < p.columns; column += kPairPanel, panel += p.panel_stride) {
    if (p.columns - column <= Vector::kLanes) pair_column<1>(p, column, panel);  // half of a panel is enough
    else pair_column<kPairVectors>(p, column, panel);
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
