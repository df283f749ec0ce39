// Quantization-aware training: weights as they will be after packing, with straight-through gradients.
#pragma once
#include <cstdint>

#include "codec/scale_rule.hpp"
#include "codec/weight_spec.hpp"
#include "core/instruction_set.hpp"

namespace usmlite::cpu {

/// A (rows, columns) weight and how it is coded; `mask` (0 or 1) may be null.
struct WeightGroups {
  const float* weight;
  const uint8_t* mask;
  int64_t rows, columns;
  codec::WeightSpec spec;  // not float32; its sparsity is in the mask

  int64_t group() const { return spec.group_size ? spec.group_size : columns; }
  int64_t groups_per_row() const { return spec.scales_per_row(columns); }
};

/// With a scale for each group, (rows, scales per row), and a zero point in formats that have them, else null.
struct FakeQuantization : WeightGroups {
  const float* scale;
  const float* zero_point;
  codec::Rounding rounding;
  uint64_t seed;  // of kStochastic and kNoise

  codec::GroupScale group_scale(int64_t group) const { return {scale[group], zero_point ? zero_point[group] : 0.0f, false}; }
};

/// Which gradients pass.
struct GradientChoices {
  bool clipped;       // none to weights beyond the outermost levels, whose gradient then is that of the level alone
  bool through_mask;  // to pruned weights as well, as if they were kept
};

/// Of a FakeQuantization, in the shapes of weight, scale and zero point; the last may be null.
struct FakeQuantizationGradients {
  float* weight;
  float* scale;
  float* zero_point;
};

USMLITE_FOR_EACH_ISA(
  // Scale and zero point (null in formats without) of every group. Scales that are to be quantized themselves are not yet.
  void group_scales(const WeightGroups& weights, const codec::ScaleRule& rule, float* scale, float* zero_point);
  // With kNearest to the bit what codec::quantize_row and dequantize_row make of the weight with these scales.
  void fake_quantize(const FakeQuantization& quantization, float* output);
  // The rounding counts as the identity; the mask stops gradients. The scale of a group gets sum_i mask_i g_i (level_i -
  // zero point - w_i / scale), which with clipped weights is LSQ (arXiv 1902.08153); noise: the noise in scales.
  void fake_quantize_backward(const FakeQuantization& quantization, const float* output_gradient,
                              const GradientChoices& choices, const FakeQuantizationGradients& gradients);
  // output[i] = mask[i] ? x[i] : pruned * x[i]
  void apply_mask(const float* x, const uint8_t* mask, float pruned, float* output, int64_t count);
)
USMLITE_DISPATCH(group_scales)
USMLITE_DISPATCH(fake_quantize)
USMLITE_DISPATCH(fake_quantize_backward)
USMLITE_DISPATCH(apply_mask)

/// Adds to the gradients of the weights what flows through scales (and zero points, may be null) that group_scales made of
/// them: a scale is proportional to its statistic, whatever factor it has beside that.
void add_scale_gradients(const WeightGroups& weights, const codec::ScaleRule& rule, const float* scale,
                         const float* scale_gradient, const float* zero_point_gradient, float* weight_gradient);

}  // namespace usmlite::cpu
