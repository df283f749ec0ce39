// Quantization-aware training: weights as they will be after packing, with straight-through gradients.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

/// A (rows, columns) weight with one scale per `group` columns, codes in -limit..limit; `mask` (0 or 1) may be null.
struct FakeQuantization {
  const float* weight;
  const uint8_t* mask;
  int64_t rows, columns;
  int64_t group;
  float limit;
};

USMLITE_FOR_EACH_ISA(
  // output[i] = round(mask * weight / scale) * scale, scale = max |mask * weight| / limit: to the bit what
  // codec::quantize_row and dequantize_row make of it.
  void fake_quantize(const FakeQuantization& quantization, float* output);
  // The rounding counts as the identity; the mask stops gradients. With `scale_gradient` the largest |w| of each group
  // also gets what flows through the scale: sign(w) / limit * sum_i mask_i g_i (round(w_i / scale) - w_i / scale).
  void fake_quantize_backward(const FakeQuantization& quantization, const float* output_gradient, bool scale_gradient,
                              float* weight_gradient);
  // output[i] = mask[i] ? x[i] : 0
  void apply_mask(const float* x, const uint8_t* mask, float* output, int64_t count);
)
USMLITE_DISPATCH(fake_quantize)
USMLITE_DISPATCH(fake_quantize_backward)
USMLITE_DISPATCH(apply_mask)

}  // namespace usmlite::cpu
