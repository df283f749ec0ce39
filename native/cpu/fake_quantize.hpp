// Quantization-aware training: weights as they will be after packing, with straight-through gradients.
#pragma once
#include <cstdint>

#include "codec/weight_spec.hpp"
#include "core/instruction_set.hpp"

namespace usmlite::cpu {

/// A (rows, columns) weight and how it is coded; `mask` (0 or 1) may be null.
struct FakeQuantization {
  const float* weight;
  const uint8_t* mask;
  int64_t rows, columns;
  codec::WeightSpec spec;  // not float32; its sparsity is in the mask

  int64_t group() const { return spec.group_size ? spec.group_size : columns; }
};

USMLITE_FOR_EACH_ISA(
  // To the bit what codec::quantize_row and dequantize_row make of the weight.
  void fake_quantize(const FakeQuantization& quantization, float* output);
  // The rounding counts as the identity; the mask stops gradients. With `scale_gradient` the weights that a group's scale
  // was computed from also get what flows through it, S = sum_i mask_i g_i (level_i - zero point - w_i / scale):
  // sign(w) / highest level * S for the largest |w|; sign(w) / count * S for each w where the scale is a mean; with zero
  // points S / highest level for the largest w and its negative for the least.
  void fake_quantize_backward(const FakeQuantization& quantization, const float* output_gradient, bool scale_gradient,
                              float* weight_gradient);
  // output[i] = mask[i] ? x[i] : 0
  void apply_mask(const float* x, const uint8_t* mask, float* output, int64_t count);
)
USMLITE_DISPATCH(fake_quantize)
USMLITE_DISPATCH(fake_quantize_backward)
USMLITE_DISPATCH(apply_mask)

}  // namespace usmlite::cpu
