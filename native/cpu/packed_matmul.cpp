#include "cpu/packed_matmul.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/matmul.hpp"
#include "cpu/matmul_finish.hpp"
#include "cpu/packed_dequantize.hpp"
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
static_assert(kSumStride == kPanelsPerTask * kPanel);
// Multiply-adds below which waking a thread costs more than it saves.
constexpr int64_t kWorkPerThread = 1 << 18;
// Weights turned to floats at a time, so that they stay in the last-level cache.
constexpr int64_t kFloatWeights = 1 << 18;

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows of activations in whole numbers.
struct QuantizedRows {
  QuantizedRows(const float* x, const int64_t* starts, int64_t rows, int64_t columns, int64_t windows)
      : stride(divide_up(windows * PackedMatrix::kWindow, 64) * 64 | 64),  // odd in lines: rows fall into different sets
        codes(static_cast<size_t>(rows * stride)), scales(static_cast<size_t>(rows)) {
    const int64_t grain = std::max<int64_t>(kWorkPerThread / 16 / std::max<int64_t>(columns, 1), 1);
    parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        quantize(x + (starts ? starts[row] : row * columns), columns, windows * PackedMatrix::kWindow, row);
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
    for (int64_t i = 0; i < padded; i += kCodesAtOnce) store_codes(x + i, columns - i, inverse, to + i);
  }
};

// The block of y that one task computes: rows [row, row + rows) by channels [column, column + channels).
struct OutputBlock {
  int64_t row, rows, column, channels, n;
  const float* row_scales;  // of the activations, of the whole product
  float* y;
};

// y = epilogue(sum(i, channel) * row scale), where sum(i, channel) gives the vector of sums at element i of the block,
// which begins in channel `channel` of it.
template <Activation kActivation, typename Sum>
void finish_block(const OutputBlock& block, const MatmulEpilogue& shared, Sum&& sum) {
  const MatmulEpilogue epilogue = shared;  // a copy of our own, which stores to y cannot change
  const Vector scale = Vector::all(epilogue.scale), residual_scale = Vector::all(epilogue.residual_scale);
  for (int64_t r = 0; r < block.rows; ++r) {
    const int64_t at = (block.row + r) * block.n + block.column;
    const Vector row_scale = Vector::all(block.row_scales[block.row + r]);
    for_each_vector(block.channels, [&](int64_t i, int64_t lanes) {
      Vector x = sum(r * kSumStride + i, i) * row_scale;
      if (epilogue.bias) x = x + Vector::load(epilogue.bias + block.column + i, lanes);
      if constexpr (kActivation == Activation::kRelu) x = relu(x);
      if constexpr (kActivation == Activation::kSilu) x = silu(x);
      x = x * scale;
      if (epilogue.residual) x = multiply_add(residual_scale, Vector::load(epilogue.residual + at + i, lanes), x);
      x.store(block.y + at + i, lanes);
    });
  }
}

template <typename Sum>
void finish_block(const OutputBlock& block, const MatmulEpilogue& epilogue, Sum&& sum) {
  switch (epilogue.activation) {
    case Activation::kRelu: return finish_block<Activation::kRelu>(block, epilogue, sum);
    case Activation::kSilu: return finish_block<Activation::kSilu>(block, epilogue, sum);
    default: return finish_block<Activation::kNone>(block, epilogue, sum);
  }
}

// sums (rows, 16 of kSumStride) += products * scales of one scale group, or = for the first.
void add_scaled(const PackedMatrix& weight, int64_t panel, int64_t group, int64_t rows, const int32_t* products,
                float* sums) {
  for (int64_t channel = 0; channel < kPanel; channel += Vector::kLanes) {
    const Vector scale = Vector::load(weight.scales(panel, group) + channel);
    const int32_t* offsets = weight.offsets(panel, group) + channel;
    for (int64_t i = channel; i < rows * kSumStride; i += kSumStride) {
      const Vector before = group == 0 ? Vector::zero() : Vector::load(sums + i);
      multiply_add(products_to_float(products + i, offsets), scale, before).store(sums + i);
    }
  }
}

void multiply_block(const PackedMatrix& weight, const OutputBlock& block, QuantizedRows& x,
                    const MatmulEpilogue& epilogue) {
  const int64_t first_panel = block.column / kPanel;
  const size_t size = static_cast<size_t>(block.rows * kSumStride);
  const bool one_scale = weight.scale_groups() == 1;
  Scratch<uint8_t> expanded(static_cast<size_t>(expanded_bytes(weight)));
  Scratch<int32_t> products(size);
  Scratch<float> sums(one_scale ? 0 : size);
  const uint8_t* inputs = x.codes.data() + block.row * x.stride;
  for (int64_t at = 0; at < block.channels; at += kPanel) {
    const int64_t panel = first_panel + at / kPanel;
    const uint8_t* codes = expand_panel(weight, panel, expanded.data());
    int64_t run = 0;
    for (int64_t group = 0; group < weight.scale_groups(); ++group) {
      multiply_group(weight, panel, group, run, block.rows, inputs, x.stride, codes, products.data() + at);
      if (!one_scale) add_scaled(weight, panel, group, block.rows, products.data() + at, sums.data() + at);
    }
  }
  if (one_scale) {
    const float* scales = weight.scales(first_panel, 0);
    const int32_t* offsets = weight.offsets(first_panel, 0);
    finish_block(block, epilogue, [=, from = products.data()](int64_t i, int64_t channel) {
      return products_to_float(from + i, offsets + channel) * Vector::load(scales + channel);
    });
  } else {
    finish_block(block, epilogue, [from = sums.data()](int64_t i, int64_t) { return Vector::load(from + i); });
  }
}

}  // namespace

void packed_matmul_int8(const PackedMatrix& weight, int64_t m, const float* x, float* y,
                        const MatmulEpilogue& epilogue, const int64_t* starts) {
  if (m <= 0) return;
  if (weight.order() == PackedOrder::kRows) return reference::packed_matmul_int8(weight, m, x, y, epilogue, starts);
  QuantizedRows rows(x, starts, m, weight.columns(), weight.windows());
  const int64_t n = weight.rows(), tile = tile_rows(weight);
  const int64_t block_rows = std::max<int64_t>(kBlockBytes / rows.stride / tile, 1) * tile;
  const int64_t width = kPanelsPerTask * kPanel, chunks = divide_up(n, width), tasks = divide_up(m, block_rows) * chunks;
  const auto run_task = [&](int64_t task) {
    const int64_t row = task / chunks * block_rows, column = task % chunks * width;
    const OutputBlock block{row, std::min(block_rows, m - row), column, std::min(width, n - column), n, rows.scales.data(), y};
    multiply_block(weight, block, rows, epilogue);
  };
  if (m * n * weight.columns() < 2 * kWorkPerThread) {
    for (int64_t task = 0; task < tasks; ++task) run_task(task);
  } else {
    parallel_dynamic(tasks, run_task);
  }
}

void packed_matmul_float(const PackedMatrix& weight, int64_t m, const float* x, float* y,
                         const MatmulEpilogue& epilogue, const int64_t* starts) {
  const int64_t n = weight.rows(), columns = weight.columns();
  MatmulRows rows;
  rows.a = starts;
  if (weight.order() == PackedOrder::kFloat) {
    return USMLITE_ISA::matmul(false, true, m, n, columns, x, columns, weight.floats(), columns, 0.0f, y, n, epilogue, rows);
  }
  const int64_t panels = std::clamp<int64_t>(kFloatWeights / columns / kPanel, 1, weight.panels());
  Scratch<float> weights(static_cast<size_t>(panels * kPanel * columns));
  for (int64_t panel = 0; panel < weight.panels(); panel += panels) {
    const int64_t count = std::min(panels, weight.panels() - panel), first = panel * kPanel;
    parallel_for(count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float* to = weights.data() + i * kPanel * columns;
        if (weight.order() == PackedOrder::kRows) weight.dequantize_panel(panel + i, to, columns);
        else dequantize_panel(weight, panel + i, to, columns);
      }
    });
    MatmulEpilogue part = epilogue;
    if (epilogue.bias) part.bias = epilogue.bias + first;
    if (epilogue.residual) part.residual = epilogue.residual + first;
    USMLITE_ISA::matmul(false, true, m, std::min(count * kPanel, n - first), columns, x, columns, weights.data(), columns, 0.0f,
           y + first, n, part, rows);
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
