// Quantization-aware training on the GPU: weights as they will be after packing, and N:M masks.
#pragma once
#include "codec/scale_rule.hpp"
#include "codec/weight_spec.hpp"
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// A float32 (rows, columns) weight and how it is coded; mask: kInt8 0 or 1, may be null. Formats without zero points, rounded to nearest.
struct DeviceQuantization {
  const DeviceTensor& weight;
  const DeviceTensor* mask;
  codec::WeightSpec spec;
  int64_t groups_per_row() const { return spec.scales_per_row(weight.columns()); }
};

/// scale (rows, groups per row): the largest kept |w| of a group over its highest level, by kFormat (of formats that are not scaled by means),
/// kMaximum or kEdge, times the clip of the rule or, where it searches, the value of its search with the least squared error; 1 where that is 0.
void group_scales(const DeviceQuantization& q, const codec::ScaleRule& rule, const DeviceTensor& scale, const std::shared_ptr<Stream>& stream);

/// What cpu::fake_quantize makes of the weight with these scales, to the bit.
void fake_quantize(const DeviceQuantization& q, const DeviceTensor& scale, const DeviceTensor& output, const std::shared_ptr<Stream>& stream);

struct DeviceGradientChoices {
  bool clipped, through_mask;  // as cpu::GradientChoices
  bool through_scale;          // adds what flows through scales that group_scales found to the first largest weight of each group
};

/// The gradient of the weight, and of the scales, (rows, groups per row).
void fake_quantize_backward(const DeviceQuantization& q, const DeviceTensor& scale, const DeviceTensor& output_gradient,
                            const DeviceGradientChoices& choices, const DeviceTensor& weight_gradient, const DeviceTensor& scale_gradient,
                            const std::shared_ptr<Stream>& stream);

/// codec::magnitude_mask of every row, kInt8.
void magnitude_mask(const DeviceTensor& weight, int kept, int of, const DeviceTensor& mask, const std::shared_ptr<Stream>& stream);

/// y = mask ? x : pruned * x, never -0; float32.
void apply_mask(const DeviceTensor& x, const DeviceTensor& mask, float pruned, const DeviceTensor& y, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
