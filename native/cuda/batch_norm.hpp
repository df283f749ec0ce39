// Batch normalisation of packed sequences with the SiLU after it, in training. Every real frame counts once.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// y = activation((x - mean) * reciprocal_deviation * weight + bias) per channel; frames are bfloat16, the rest
/// (channels) float32.
struct BatchNormArguments {
  const DeviceMatrix *x, *weight, *bias;
  float epsilon;
  bool silu;
  bool training;   // statistics of these frames, at least two, and the running ones are updated; else the running ones
  float momentum;  // running = (1 - momentum) running + momentum batch
  const DeviceMatrix *running_mean, *running_variance;  // the latter unbiased
  const DeviceMatrix *mean, *reciprocal_deviation;      // what was used, for the backward pass
  const DeviceMatrix* y;
};
void batch_norm(const BatchNormArguments& arguments, const Stream& stream);

struct BatchNormBackwardArguments {
  const DeviceMatrix *x, *weight, *bias, *mean, *reciprocal_deviation;  // as above
  const DeviceMatrix* gradient;                                         // of y
  bool silu;
  bool training;  // whether mean and deviation depend on x
  const DeviceMatrix *gradient_x, *gradient_weight, *gradient_bias;
};
void batch_norm_backward(const BatchNormBackwardArguments& arguments, const Stream& stream);

}  // namespace usmlite::cuda
