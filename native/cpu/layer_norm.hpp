// Layer normalization of each frame, alone or fused with the residual sum before it.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

/// normalized = (sum - mean) / sqrt(variance + epsilon) * weight + bias with sum = a * x + b * y, over `hidden` values
/// of each frame; biased variance (Ba, Kiros, Hinton 2016). Without y, sum is x and is not written.
struct LayerNormForward {
  const float* x;       // (frames, hidden)
  const float* y;       // (frames, hidden) or null
  float a = 1.0f, b = 0.0f;
  const float* weight;  // (hidden)
  const float* bias;    // (hidden) or null
  float epsilon;
  int64_t frames, hidden;
  float* sum;           // (frames, hidden), with y only
  float* normalized;    // (frames, hidden)
};

/// Mean and variance are computed again from `sum`: that costs less than the memory traffic around them.
struct LayerNormBackward {
  const float* sum;                  // (frames, hidden), what was normalized
  const float* weight;               // (hidden)
  float epsilon;
  float a = 1.0f, b = 0.0f;
  int64_t frames, hidden;
  const float* gradient_normalized;  // (frames, hidden) or null
  const float* gradient_sum;         // (frames, hidden) or null
  float* gradient_x;                 // (frames, hidden) or null: a * gradient of the sum
  float* gradient_y;                 // (frames, hidden) or null: b * gradient of the sum
  float* gradient_weight;            // (hidden) or null
  float* gradient_bias;              // (hidden) or null
};

USMLITE_FOR_EACH_ISA(
  void layer_norm_forward(const LayerNormForward& problem);
  void layer_norm_backward(const LayerNormBackward& problem);
)
USMLITE_DISPATCH(layer_norm_forward)
USMLITE_DISPATCH(layer_norm_backward)

}  // namespace usmlite::cpu
