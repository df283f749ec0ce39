// What happens to the sums of a tile of packed products: scales, then the epilogue.
#pragma once
#include "cpu/matmul_finish.hpp"
#include "cpu/quantized_rows.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// Two panels of the weight that are multiplied together: neighbours, or the two that a gated activation combines.
struct PanelPair {
  int64_t panels[2];
  bool second;  // false: panels[1] repeats panels[0], and is left out
};

/// A whole product y (m, columns of y).
struct PackedProduct {
  const PackedMatrix& weight;
  const QuantizedRows& x;
  int64_t m;
  float* y;
  int64_t y_columns;
  MatmulEpilogue epilogue;
  bool gated;  // pairs are value and gate
  const PackedSchedule& schedule;
};

template <Activation kActivation>
inline Vector activated(Vector x) {
  if constexpr (kActivation == Activation::kRelu) return relu(x);
  else if constexpr (kActivation == Activation::kSilu) return silu(x);
  else if constexpr (kActivation == Activation::kGelu) return gelu(x);
  else return x;
}

/// y = epilogue(sums) for the rows and channels of a tile; kWhole: panels have all 16 channels.
template <Activation kActivation, bool kWhole>
void finish_tile(const PackedProduct& p, const PanelPair& pair, int64_t first_row, int64_t rows, const float* sums) {
  constexpr int64_t kChannels = PackedMatrix::kChannels;
  constexpr bool kGated = kActivation == Activation::kGlu;
  // Copies of our own, which stores to y cannot change.
  const MatmulEpilogue epilogue = p.epilogue;
  const float *row_scales = p.x.scales(first_row), *zero_points = p.x.zero_points(first_row);
  const int64_t stride = p.y_columns;
  const bool asymmetric = p.x.asymmetric();
  const Vector scale = Vector::all(epilogue.scale), residual_scale = Vector::all(epilogue.residual_scale);
  for (int64_t half = 0; half < (kGated || !pair.second ? 1 : 2); ++half) {
    const int64_t column = pair.panels[half] * kChannels;
    const int64_t channels = kWhole ? kChannels : std::min(kChannels, stride - column);
    for (int64_t i = 0; i < channels; i += Vector::kLanes) {
      const int64_t lanes = kWhole ? Vector::kLanes : std::min(Vector::kLanes, channels - i);
      // A column of vectors of sums, in the units of y, with its bias.
      const auto biased = [&](int64_t which) {
        const int64_t panel = pair.panels[which];
        const Vector weights = asymmetric ? Vector::load(p.weight.sums(panel) + i) : Vector::zero();
        const Vector bias = epilogue.bias ? Vector::load(epilogue.bias + panel * kChannels + i, lanes) : Vector::zero();
        return [=, from = sums + which * kChannels + i, has_bias = epilogue.bias != nullptr](int64_t r) {
          Vector x = Vector::load(from + r * kPairChannels);
          if (asymmetric) x = multiply_add(Vector::all(-zero_points[r]), weights, x);
          x = x * Vector::all(row_scales[r]);
          return has_bias ? x + bias : x;
        };
      };
      const auto value = biased(half), gate = biased(kGated ? 1 : half);
      float* y = p.y + first_row * stride + column + i;
      const float* residual = epilogue.residual ? epilogue.residual + first_row * stride + column + i : nullptr;
      for (int64_t r = 0; r < rows; ++r) {
        Vector x = value(r);
        if constexpr (kGated) x = x * sigmoid(gate(r));
        else x = activated<kActivation>(x);
        x = x * scale;
        if (residual) x = multiply_add(residual_scale, Vector::load(residual + r * stride, lanes), x);
        x.store(y + r * stride, lanes);
      }
    }
  }
}

template <Activation kActivation>
inline void finish_tile(const PackedProduct& p, const PanelPair& pair, int64_t first_row, int64_t rows, const float* sums) {
  const int64_t last = std::max(pair.panels[0], pair.panels[1] * !p.gated);
  if ((last + 1) * PackedMatrix::kChannels <= p.y_columns) finish_tile<kActivation, true>(p, pair, first_row, rows, sums);
  else finish_tile<kActivation, false>(p, pair, first_row, rows, sums);
}

inline void finish_tile(const PackedProduct& p, const PanelPair& pair, int64_t first_row, int64_t rows, const float* sums) {
  switch (p.epilogue.activation) {
    case Activation::kRelu: return finish_tile<Activation::kRelu>(p, pair, first_row, rows, sums);
    case Activation::kSilu: return finish_tile<Activation::kSilu>(p, pair, first_row, rows, sums);
    case Activation::kGelu: return finish_tile<Activation::kGelu>(p, pair, first_row, rows, sums);
    case Activation::kGlu: return finish_tile<Activation::kGlu>(p, pair, first_row, rows, sums);
    default: return finish_tile<Activation::kNone>(p, pair, first_row, rows, sums);
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
