#include "cpu/packed_matmul.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/matmul.hpp"
#include "cpu/matmul_finish.hpp"
#include "cpu/simd.hpp"

#if defined(__AVX512F__)
#include "cpu/packed_tile_avx512.hpp"
#else
#include "cpu/packed_tile_avx2.hpp"
#endif

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kPanel = PackedMatrix::kChannels;
// Bytes of activations multiplied by one expanded panel after the other: part of a second-level cache.
constexpr int64_t kBlockBytes = 160 << 10;
// Panels multiplied by one task. Their sums are kept aside until all are there, because single lines of y, whose rows
// often lie a power of two apart, would push each other out of the caches half-written.
constexpr int64_t kPanelsPerTask = 4;
constexpr int64_t kSumStride = kPanelsPerTask * kPanel;
// Multiply-adds below which waking a thread costs more than it saves.
constexpr int64_t kWorkPerThread = 1 << 18;
// Weights turned to floats at a time, so that they stay in the last-level cache.
constexpr int64_t kFloatWeights = 1 << 18;

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows of activations in whole numbers.
struct QuantizedRows {
  QuantizedRows(const float* x, int64_t rows, int64_t columns, int64_t windows)
      : stride(divide_up(windows * PackedMatrix::kWindow, 64) * 64 | 64),  // odd in lines: rows fall into different sets
        codes(static_cast<size_t>(rows * stride)), scales(static_cast<size_t>(rows)) {
    const int64_t grain = std::max<int64_t>(kWorkPerThread / 16 / std::max<int64_t>(columns, 1), 1);
    parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        quantize(x + row * columns, columns, windows * PackedMatrix::kWindow, row);
      }
    });
  }

  int64_t stride;
  Scratch<uint8_t> codes;   // (rows, stride), kActivationOffset added
  Scratch<float> scales;    // (rows)

 private:
  void quantize(const float* x, int64_t columns, int64_t padded, int64_t row) {
    const int32_t bits = largest_magnitude_bits(x, columns);
    const float largest = std::bit_cast<float>(bits);
    const bool finite = bits < 0x7F800000, zero = finite && largest < kSmallestActivation;
    scales[row] = finite ? (zero ? 0.0f : largest / 127.0f) : std::numeric_limits<float>::quiet_NaN();
    const Vector inverse = Vector::all(finite && !zero ? 127.0f / largest : 0.0f);
    uint8_t* to = codes.data() + row * stride;
    for (int64_t i = 0; i < padded; i += Vector::kLanes) {
      store_codes(Vector::load(x + i, std::clamp<int64_t>(columns - i, 0, Vector::kLanes)) * inverse, to + i);
    }
  }
};

// sums[r * kSumStride + i] = x (rows, columns of the weight) . row i of the panel, as floats.
void multiply_panel_tile(const PackedMatrix& weight, int64_t panel, const uint8_t* expanded, int64_t rows,
                         const uint8_t* x, int64_t stride, const float* row_scales, float* sums) {
  alignas(64) int32_t products[kLargestTileRows * kPanel];
  const int64_t last = weight.scale_groups() - 1;
  for_each_scale_group(weight, panel, [&](int64_t group, const GroupSpan& span) {
    multiply_tile(weight, panel, span, rows, x, stride, expanded, products);
    for (int64_t channel = 0; channel < kPanel; channel += Vector::kLanes) {
      const Vector scale = Vector::load(weight.scales(panel, group) + channel);
      const int32_t* offsets = weight.offsets(panel, group) + channel;
      for (int64_t r = 0; r < rows; ++r) {
        float* to = sums + r * kSumStride + channel;
        const Vector before = group == 0 ? Vector::zero() : Vector::load(to);
        Vector sum = multiply_add(products_to_float(products + r * kPanel + channel, offsets), scale, before);
        if (group == last) sum = sum * Vector::all(row_scales[r]);
        sum.store(to);
      }
    }
  });
}

// Rows [row, row + rows) of y from channel `column` on: the epilogue of `channels` sums each.
template <Activation kActivation>
void finish_sums(const float* sums, int64_t row, int64_t rows, int64_t column, int64_t channels, int64_t n, float* y,
                 const MatmulEpilogue& shared) {
  const MatmulEpilogue epilogue = shared;  // a copy of our own, which stores to y cannot change
  const Vector scale = Vector::all(epilogue.scale), residual_scale = Vector::all(epilogue.residual_scale);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = (row + r) * n + column;
    for_each_vector(channels, [&](int64_t i, int64_t lanes) {
      Vector x = Vector::load(sums + r * kSumStride + i);
      if (epilogue.bias) x = x + Vector::load(epilogue.bias + column + i, lanes);
      if constexpr (kActivation == Activation::kRelu) x = relu(x);
      if constexpr (kActivation == Activation::kSilu) x = silu(x);
      x = x * scale;
      if (epilogue.residual) x = multiply_add(residual_scale, Vector::load(epilogue.residual + at + i, lanes), x);
      x.store(y + at + i, lanes);
    });
  }
}

void finish_sums(const float* sums, int64_t row, int64_t rows, int64_t column, int64_t channels, int64_t n, float* y,
                 const MatmulEpilogue& epilogue) {
  switch (epilogue.activation) {
    case Activation::kRelu: return finish_sums<Activation::kRelu>(sums, row, rows, column, channels, n, y, epilogue);
    case Activation::kSilu: return finish_sums<Activation::kSilu>(sums, row, rows, column, channels, n, y, epilogue);
    default: return finish_sums<Activation::kNone>(sums, row, rows, column, channels, n, y, epilogue);
  }
}

}  // namespace

void packed_matmul_int8(const PackedMatrix& weight, int64_t m, const float* x, float* y,
                        const MatmulEpilogue& epilogue) {
  if (m <= 0) return;
  QuantizedRows rows(x, m, weight.columns(), weight.windows());
  const int64_t tile = tile_rows(weight);
  const int64_t block = std::max<int64_t>(kBlockBytes / rows.stride / tile, 1) * tile;
  const int64_t blocks = divide_up(m, block);
  const int64_t chunks = divide_up(weight.panels(), kPanelsPerTask);
  const auto run_task = [&](int64_t task) {
    Scratch<uint8_t> expanded(static_cast<size_t>(expanded_bytes(weight)));
    const int64_t first_row = task / chunks * block, row_count = std::min(block, m - first_row);
    const int64_t first_panel = task % chunks * kPanelsPerTask;
    const int64_t panel_count = std::min(kPanelsPerTask, weight.panels() - first_panel);
    Scratch<float> sums(static_cast<size_t>(row_count * kSumStride));
    for (int64_t i = 0; i < panel_count; ++i) {
      const uint8_t* codes = expand_panel(weight, first_panel + i, expanded.data());
      for (int64_t r = 0; r < row_count; r += tile) {
        const int64_t row = first_row + r;
        multiply_panel_tile(weight, first_panel + i, codes, std::min(tile, row_count - r),
                            rows.codes.data() + row * rows.stride, rows.stride, rows.scales.data() + row,
                            sums.data() + r * kSumStride + i * kPanel);
      }
    }
    const int64_t n = weight.rows(), column = first_panel * kPanel, channels = std::min(panel_count * kPanel, n - column);
    finish_sums(sums.data(), first_row, row_count, column, channels, n, y, epilogue);
  };
  if (m * weight.rows() * weight.columns() < 2 * kWorkPerThread) {
    for (int64_t task = 0; task < blocks * chunks; ++task) run_task(task);
  } else {
    parallel_dynamic(blocks * chunks, run_task);
  }
}

void packed_matmul_float(const PackedMatrix& weight, int64_t m, const float* x, float* y,
                         const MatmulEpilogue& epilogue) {
  const int64_t n = weight.rows(), columns = weight.columns();
  if (weight.order() == PackedOrder::kFloat) {
    return matmul(false, true, m, n, columns, x, columns, weight.floats(), columns, 0.0f, y, n, epilogue);
  }
  const int64_t panels = std::clamp<int64_t>(kFloatWeights / columns / kPanel, 1, weight.panels());
  Scratch<float> weights(static_cast<size_t>(panels * kPanel * columns));
  for (int64_t panel = 0; panel < weight.panels(); panel += panels) {
    const int64_t count = std::min(panels, weight.panels() - panel), first = panel * kPanel;
    parallel_for(count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        weight.dequantize_panel(panel + i, weights.data() + i * kPanel * columns, columns);
      }
    });
    MatmulEpilogue part = epilogue;
    if (epilogue.bias) part.bias = epilogue.bias + first;
    if (epilogue.residual) part.residual = epilogue.residual + first;
    matmul(false, true, m, std::min(count * kPanel, n - first), columns, x, columns, weights.data(), columns, 0.0f,
           y + first, n, part);
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
