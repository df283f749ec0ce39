// Products of small matrices whose right factor was copied into panels: the inner loop of attention.
#pragma once
#include <cstdint>

#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// Columns of a panel. A (depth, columns) matrix is stored panel by panel, each (depth, kPanel), zeros behind the last
/// column; the result has rows of whole panels too.
inline constexpr int kPanelVectors = 2;
inline constexpr int64_t kPanel = kPanelVectors * Vector::kLanes;
/// Rows of a register tile: with two vectors each they leave room for a panel row and a broadcast.
inline constexpr int kTileRows = Vector::kLanes == 16 ? 12 : 6;

inline int64_t whole_panels(int64_t columns) { return (columns + kPanel - 1) / kPanel * kPanel; }

/// The left factor: rows of `stride` values, or its transpose, columns of `stride` values.
struct LeftFactor {
  const float* data;
  int64_t stride;
  bool transposed = false;
};

template <int R, bool kTransposed>
inline void product_tile(const float* a, int64_t stride, int64_t depth, const float* panel, float* c, int64_t c_stride,
                         bool accumulate) {
  Vector sums[R][kPanelVectors];
  for (int r = 0; r < R; ++r) {
    for (int j = 0; j < kPanelVectors; ++j) {
      sums[r][j] = accumulate ? Vector::load(c + r * c_stride + j * Vector::kLanes) : Vector::zero();
    }
  }
  for (int64_t k = 0; k < depth; ++k, panel += kPanel) {
    Vector b[kPanelVectors];
    for (int j = 0; j < kPanelVectors; ++j) b[j] = Vector::load(panel + j * Vector::kLanes);
    for (int r = 0; r < R; ++r) {
      const Vector factor = Vector::all(kTransposed ? a[k * stride + r] : a[r * stride + k]);
      for (int j = 0; j < kPanelVectors; ++j) sums[r][j] = multiply_add(factor, b[j], sums[r][j]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int j = 0; j < kPanelVectors; ++j) sums[r][j].store(c + r * c_stride + j * Vector::kLanes);
  }
}

template <bool kTransposed, int R = kTileRows - 1>
inline void product_rest(int64_t rows, const float* a, int64_t stride, int64_t depth, const float* panel, float* c,
                         int64_t c_stride, bool accumulate) {
  if constexpr (R > 0) {
    if (rows == R) return product_tile<R, kTransposed>(a, stride, depth, panel, c, c_stride, accumulate);
    product_rest<kTransposed, R - 1>(rows, a, stride, depth, panel, c, c_stride, accumulate);
  }
}

template <bool kTransposed>
inline void product_of(const LeftFactor& a, int64_t rows, int64_t depth, const float* panels, int64_t panel_stride,
                       int64_t columns, float* c, int64_t c_stride, bool accumulate) {
  const int64_t step = kTransposed ? 1 : a.stride;  // from one row to the next
  for (int64_t column = 0; column < columns; column += kPanel, panels += panel_stride) {
    int64_t row = 0;
    for (; row + kTileRows <= rows; row += kTileRows) {
      product_tile<kTileRows, kTransposed>(a.data + row * step, a.stride, depth, panels, c + row * c_stride + column,
                                           c_stride, accumulate);
    }
    product_rest<kTransposed>(rows - row, a.data + row * step, a.stride, depth, panels, c + row * c_stride + column,
                              c_stride, accumulate);
  }
}

/// c(rows, whole panels of columns) = a(rows, depth) b(depth, columns), or added to c. Panels of b lie panel_stride
/// floats apart.
inline void panel_product(const LeftFactor& a, int64_t rows, int64_t depth, const float* panels, int64_t panel_stride,
                          int64_t columns, float* c, int64_t c_stride, bool accumulate) {
  if (a.transposed) return product_of<true>(a, rows, depth, panels, panel_stride, columns, c, c_stride, accumulate);
  product_of<false>(a, rows, depth, panels, panel_stride, columns, c, c_stride, accumulate);
}

}  // namespace usmlite::cpu::USMLITE_ISA
