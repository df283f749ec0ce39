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
constexpr int64_t kBlockBytes = 192 << 10;
// Panels expanded by one task.
constexpr int64_t kPanelsPerTask = 4;
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

// A tile of results: rows [row, row + rows) of y by the channels of one panel.
struct OutputTile {
  const PackedMatrix& weight;
  int64_t panel, row, rows;
  const float* row_scales;  // of the activations
  float* y;
  const MatmulEpilogue& epilogue;
};

// y = epilogue(sum(i, channel) * row scale), where `sum` gives the vector of sums that begins at element i of the tile, in
// channel `channel` of the panel. Each column of vectors keeps what belongs to its channels in registers.
template <Activation kActivation, typename Sum>
void finish_tile(const OutputTile& tile, Sum&& sum) {
  const MatmulEpilogue& epilogue = tile.epilogue;
  const int64_t n = tile.weight.rows(), first = tile.panel * kPanel, channels = std::min(kPanel, n - first);
  const Vector scale = Vector::all(epilogue.scale), residual_scale = Vector::all(epilogue.residual_scale);
  for (int64_t channel = 0; channel < channels; channel += Vector::kLanes) {
    const int64_t lanes = std::min(Vector::kLanes, channels - channel);
    const Vector bias = epilogue.bias ? Vector::load(epilogue.bias + first + channel, lanes) : Vector::zero();
    for (int64_t r = 0; r < tile.rows; ++r) {
      const int64_t at = (tile.row + r) * n + first + channel;
      Vector x = sum(r * kPanel + channel, channel) * Vector::all(tile.row_scales[tile.row + r]) + bias;
      if constexpr (kActivation == Activation::kRelu) x = relu(x);
      if constexpr (kActivation == Activation::kSilu) x = silu(x);
      x = x * scale;
      if (epilogue.residual) x = multiply_add(residual_scale, Vector::load(epilogue.residual + at, lanes), x);
      if (lanes == Vector::kLanes) x.store(tile.y + at);
      else x.store(tile.y + at, lanes);
    }
  }
}

template <typename Sum>
void finish_tile(const OutputTile& tile, Sum&& sum) {
  switch (tile.epilogue.activation) {
    case Activation::kRelu: return finish_tile<Activation::kRelu>(tile, sum);
    case Activation::kSilu: return finish_tile<Activation::kSilu>(tile, sum);
    default: return finish_tile<Activation::kNone>(tile, sum);
  }
}

void multiply_rows(const OutputTile& tile, const uint8_t* expanded, const uint8_t* x, int64_t stride) {
  alignas(64) int32_t sums[kLargestTileRows * kPanel];
  alignas(64) float results[kLargestTileRows * kPanel];
  const PackedMatrix& weight = tile.weight;
  // The sums of the scale group in hand, scaled and added to those of the groups before.
  const float* scales = nullptr;
  const int32_t* offsets = nullptr;
  const auto scaled_sum = [&](int64_t i, int64_t channel, Vector before) {
    return multiply_add(sums_to_float(sums + i, offsets + channel), Vector::load(scales + channel), before);
  };
  const int64_t last = weight.scale_groups() - 1;
  for_each_scale_group(weight, tile.panel, [&](int64_t group, const GroupSpan& span) {
    multiply_tile(weight, tile.panel, span, tile.rows, x + tile.row * stride, stride, expanded, sums);
    scales = weight.scales(tile.panel, group);
    offsets = weight.offsets(tile.panel, group);
    if (group == last) return;
    for (int64_t i = 0; i < tile.rows * kPanel; i += Vector::kLanes) {
      scaled_sum(i, i % kPanel, group == 0 ? Vector::zero() : Vector::load(results + i)).store(results + i);
    }
  });
  if (last == 0) {
    finish_tile(tile, [=, &sums](int64_t i, int64_t channel) {
      return sums_to_float(sums + i, offsets + channel) * Vector::load(scales + channel);
    });
  } else {
    finish_tile(tile, [&](int64_t i, int64_t channel) { return scaled_sum(i, channel, Vector::load(results + i)); });
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
  // Too little work for two threads: one task.
  const bool small = m * weight.rows() * weight.columns() < 2 * kWorkPerThread;
  const int64_t panels_per_task = small ? weight.panels() : kPanelsPerTask;
  const int64_t chunks = divide_up(weight.panels(), panels_per_task);
  parallel_dynamic(blocks * chunks, [&](int64_t task) {
    Scratch<uint8_t> expanded(static_cast<size_t>(expanded_bytes(weight)));
    const int64_t first_row = task / chunks * block, last_row = std::min(first_row + block, m);
    const int64_t first_panel = task % chunks * panels_per_task;
    const int64_t last_panel = std::min(first_panel + panels_per_task, weight.panels());
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      const uint8_t* codes = expand_panel(weight, panel, expanded.data());
      for (int64_t row = first_row; row < last_row; row += tile) {
        multiply_rows({weight, panel, row, std::min(tile, last_row - row), rows.scales.data(), y, epilogue}, codes,
                      rows.codes.data(), rows.stride);
      }
    }
  });
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
