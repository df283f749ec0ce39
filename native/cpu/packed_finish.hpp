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
  const MatmulEpilogue epilogue = p.epilogue;  // a copy of our own, which stores to y cannot change
  const Vector scale = Vector::all(epilogue.scale), residual_scale = Vector::all(epilogue.residual_scale);
  const bool asymmetric = p.x.asymmetric();
  for (int64_t half = 0; half < (kGated || !pair.second ? 1 : 2); ++half) {
    const int64_t column = pair.panels[half] * kChannels;
    const int64_t channels = kWhole ? kChannels : std::min(kChannels, p.y_columns - column);
    for (int64_t i = 0; i < channels; i += Vector::kLanes) {
      const int64_t lanes = kWhole ? Vector::kLanes : std::min(Vector::kLanes, channels - i);
      // A column of vectors of sums, in the units of y, with its bias.
      const auto biased = [&](int64_t which) {
        const int64_t panel = pair.panels[which];
        const float* from = sums + which * kChannels + i;
        const Vector weights = Vector::load(p.weight.sums(panel) + i);
        const Vector bias = epilogue.bias ? Vector::load(epilogue.bias + panel * kChannels + i, lanes) : Vector::zero();
        return [=, &p, has_bias = epilogue.bias != nullptr](int64_t r) {
          Vector x = Vector::load(from + r * kPairChannels);
          if (asymmetric) x = multiply_add(Vector::all(-p.x.zero_point(first_row + r)), weights, x);
          x = x * Vector::all(p.x.scale(first_row + r));
          return has_bias ? x + bias : x;
        };
      };
      const auto value = biased(half), gate = biased(kGated ? 1 : half);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t at = (first_row + r) * p.y_columns + column + i;
        Vector x = value(r);
        if constexpr (kGated) x = x * sigmoid(gate(r));
        else x = activated<kActivation>(x);
        x = x * scale;
        if (epilogue.residual) x = multiply_add(residual_scale, Vector::load(epilogue.residual + at, lanes), x);
        x.store(p.y + at, lanes);
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

/// Brings the lines of y that a tile will fill closer while its sums are being made.
inline void prefetch_tile(const PackedProduct& p, const PanelPair& pair, int64_t first_row, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = p.y + (first_row + r) * p.y_columns;
    for (int64_t half = 0; half < (p.gated ? 1 : 2); ++half) __builtin_prefetch(row + pair.panels[half] * PackedMatrix::kChannels, 1);
  }
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
