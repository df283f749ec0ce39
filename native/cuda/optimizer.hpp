// AdamW on the GPU, the global gradient norm, and averages of weights: passes over all parameters of a model.
#pragma once
#include <span>

#include "cpu/optimizer.hpp"
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// A float32 parameter with what belongs to it, of one shape.
struct DeviceAdamWParameter {
  const DeviceMatrix &value, &gradient, &first_moment, &second_moment;
  float learning_rate, weight_decay;
};

/// The step of cpu::adamw.
void adamw(std::span<const DeviceAdamWParameter> parameters, const cpu::AdamWStep& step, const Stream& stream);

/// Of all elements of float32 tensors, in an order that is always the same; waits for the GPU.
double sum_of_squares(std::span<const DeviceMatrix* const> tensors, const Stream& stream);

/// A float32 parameter and its average, of one shape.
struct DeviceAveraged {
  const DeviceMatrix &average, &value;
};

/// average = decay * average + (1 - decay) * value.
void update_averages(std::span<const DeviceAveraged> averaged, float decay, const Stream& stream);

}  // namespace usmlite::cuda
