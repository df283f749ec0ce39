// Quantization-aware training on the GPU: weights as they will be after packing.
#pragma once
#include "codec/scale_rule.hpp"
#include "codec/weight_spec.hpp"
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// A float32 (rows, columns) weight and how it is coded; mask: kInt8 0 or 1, may be null.
struct DeviceWeightGroups {
  const DeviceMatrix& weight;
  const DeviceMatrix* mask;
  codec::WeightSpec spec;  // not float32; its sparsity is in the mask
  int64_t groups_per_row() const { return spec.scales_per_row(weight.columns()); }
};

/// As cpu::group_scales: scale and zero_point (null in formats without), float32 (rows, groups per row), zeros in their gaps.
/// Means are sums in double, in another order than the CPU's.
void group_scales(const DeviceWeightGroups& weights, const codec::ScaleRule& rule, const DeviceMatrix& scale, const DeviceMatrix* zero_point,
                  const Stream& stream);

/// With a scale for each group, (rows, groups per row), and a zero point in formats that have them, else null.
struct DeviceQuantization : DeviceWeightGroups {
  const DeviceMatrix& scale;
  const DeviceMatrix* zero_point;
  codec::Rounding rounding;
  uint64_t seed;  // of kStochastic and kNoise
};

/// What cpu::fake_quantize makes of the weight with these scales: to the bit, but for the rounding of noise. `output`: kFloat32, or kBFloat16
/// and then rounded once more, to nearest.
void fake_quantize(const DeviceQuantization& q, const DeviceMatrix& output, const Stream& stream);

/// group_scales and fake_quantize with what it finds, in one launch unless scales are quantized themselves.
void scale_and_round(const DeviceWeightGroups& weights, const codec::ScaleRule& rule, const DeviceMatrix& scale, const DeviceMatrix* zero_point,
                     codec::Rounding rounding, uint64_t seed, const DeviceMatrix& output, const Stream& stream);

struct DeviceGradientChoices {
  bool clipped, through_mask;  // as cpu::GradientChoices
  float scale_decay;           // added to the gradient of every scale
  const DeviceMatrix* found;  // scales as group_scales found them, through which gradients flow to the weights: cpu::add_scale_gradients; may be null
  codec::ScaleStatistic statistic;  // that they were found by
};

/// Of a DeviceQuantization, in the shapes of weight, scale and zero point; the latter two null where they are not wanted.
struct DeviceQuantizationGradients {
  const DeviceMatrix& weight;
  const DeviceMatrix *scale, *zero_point;
};

void fake_quantize_backward(const DeviceQuantization& q, const DeviceMatrix& output_gradient, const DeviceGradientChoices& choices,
                            const DeviceQuantizationGradients& gradients, const Stream& stream);

}  // namespace usmlite::cuda
