// Batch normalization of packed sequences with the SiLU after it. Every real frame counts once; there is no padding.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

/// y = activation(normal * weight + bias) with normal = (x - mean) * reciprocal_deviation per channel.
struct BatchNormForward {
  const float* x;  // (frames, channels)
  const float* weight;
  const float* bias;  // (channels)
  bool silu;
  int64_t frames, channels;
  float epsilon;
  bool training;           // statistics of this batch (true) or the running ones (false)
  float momentum;          // running = (1 - momentum) running + momentum batch, when training
  float* running_mean;     // (channels)
  float* running_variance; // (channels), unbiased
  float* mean;             // (channels) what was used, for the backward pass
  float* reciprocal_deviation;  // (channels)
  float* y;                // (frames, channels)
};

struct BatchNormBackward {
  const float* x;  // (frames, channels)
  const float* weight;
  const float* bias;
  const float* mean;
  const float* reciprocal_deviation;  // (channels) as the forward pass left them
  const float* gradient;  // (frames, channels), of y
  bool silu;
  bool training;  // whether mean and deviation depend on x
  int64_t frames, channels;
  float* gradient_x;       // (frames, channels)
  float* gradient_weight;  // (channels)
  float* gradient_bias;    // (channels)
};

USMLITE_FOR_EACH_ISA(
  void batch_norm_forward(const BatchNormForward& problem);
  void batch_norm_backward(const BatchNormBackward& problem);
)
USMLITE_DISPATCH(batch_norm_forward)
USMLITE_DISPATCH(batch_norm_backward)

}  // namespace usmlite::cpu
