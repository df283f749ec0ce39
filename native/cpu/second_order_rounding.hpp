// Rounding and pruning one input after another, where the inputs still to come make up for the error of each: GPTQ
// (Frantar et al., ICLR 2023, arXiv 2210.17323) and SparseGPT (Frantar and Alistarh, ICML 2023, arXiv 2301.00774).
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "codec/quantize.hpp"
#include "core/instruction_set.hpp"
#include "cpu/scale_search.hpp"

namespace usmlite::cpu {

/// A (rows, columns) weight, and the second moments of its inputs as the factor U of their inverse (inverse_factor).
struct SecondOrderRounding {
  codec::WeightSpec spec;
  int64_t rows, columns;
  const float* factor;      // (columns, columns), upper triangular
  const float* importance;  // (columns): mean square of each input, for the search of scales
  bool choose_mask;         // fill `mask` as spec's N:M asks; otherwise it is given
  bool search_scales;       // narrow the format's own scale where that loses less
  float* weights;           // in: to be rounded; out: scale * (level - zero point), where pruned what it had become by then
  uint8_t* mask;            // (rows, columns); null: nothing is pruned
  float* scales;            // out (rows, groups); null for float32
  float* zero_points;       // out, the same; null for formats without

  int64_t group() const { return spec.group_size ? spec.group_size : columns; }
  int64_t groups() const { return spec.scales_per_row(columns); }
};

/// Marks what is kept of the N:M groups that begin in [begin, end): where zeroing a weight would cost most, which is
/// w^2 / U_jj^2 when the inputs after it make up for it.
inline void choose_group_masks(const SecondOrderRounding& r, const float* weights, int64_t begin, int64_t end, uint8_t* mask) {
  std::vector<float> cost(static_cast<size_t>(r.spec.of));
  for (int64_t first = (begin + r.spec.of - 1) / r.spec.of * r.spec.of; first < end; first += r.spec.of) {
    const int64_t count = std::min<int64_t>(r.spec.of, r.columns - first);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t j = first + i;
      cost[static_cast<size_t>(i)] = std::fabs(weights[j]) / r.factor[j * r.columns + j];
    }
    codec::magnitude_mask(cost.data(), count, r.spec.kept, r.spec.of, mask + first);
  }
}

/// What must be known of input j of a row before it is rounded: the mask of the N:M group and the scale of the group of
/// inputs that begin there, chosen from the weights as they have become. `search` is search_scale of the instruction set.
template <typename Search>
inline void begin_input(const SecondOrderRounding& r, int64_t row, int64_t j, codec::GroupScale& scale, Search&& search) {
  const float* const weights = r.weights + row * r.columns;
  uint8_t* const mask = r.mask ? r.mask + row * r.columns : nullptr;
  if (r.choose_mask && j % r.spec.of == 0) choose_group_masks(r, weights, j, j + 1, mask);
  if (!r.spec.is_integer() || j % r.group() != 0) return;
  const int64_t end = std::min(j + r.group(), r.columns);
  // The weights that the scale is for: for those not reached yet the mask that they would have now.
  if (r.choose_mask) choose_group_masks(r, weights, j, end, mask);
  const ScaleGroup group{weights + j, mask ? mask + j : nullptr, r.importance + j, end - j};
  scale = r.search_scales ? search(r.spec, group) : codec::group_scale(r.spec, group.weights, group.mask, group.count);
  const int64_t at = row * r.groups() + j / r.group();
  r.scales[at] = scale.scale;
  if (r.zero_points) r.zero_points[at] = scale.zero_point;
}

/// Rounds or prunes input j of a row and returns its error as the inputs after it feel it: (w - rounded) / U_jj.
inline float round_input(const SecondOrderRounding& r, int64_t row, int64_t j, const codec::GroupScale& scale) {
  float& weight = r.weights[row * r.columns + j];
  const float before = weight;
  if (r.mask && !r.mask[row * r.columns + j]) return before / r.factor[j * r.columns + j];
  if (r.spec.is_integer()) weight = (codec::nearest_level(r.spec, before, scale) - scale.zero_point) * scale.scale + 0.0f;
  return (before - weight) / r.factor[j * r.columns + j];
}

USMLITE_FOR_EACH_ISA(
  // For each row of W, from the first input j to the last: w_j becomes its level or is pruned, and the inputs k > j take
  // w_k -= (error of w_j / U_jj) U_jk, the least squares over the inputs with those moments.
  void second_order_rounding(const SecondOrderRounding& rounding);
)
USMLITE_DISPATCH(second_order_rounding)

}  // namespace usmlite::cpu
