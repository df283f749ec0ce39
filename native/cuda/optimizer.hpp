// AdamW on the GPU, and the global gradient norm.
#pragma once
#include <vector>

#include "cpu/optimizer.hpp"
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// A float32 parameter with what belongs to it, of one shape.
struct DeviceAdamWParameter {
  const DeviceTensor &value, &gradient, &first_moment, &second_moment;
  float learning_rate, weight_decay;
};

/// The step of cpu::adamw.
void adamw(const std::vector<DeviceAdamWParameter>& parameters, const cpu::AdamWStep& step, const std::shared_ptr<Stream>& stream);

/// Blocks that sum_of_squares divides a tensor into.
int64_t square_blocks(const DeviceTensor& tensor);
/// The sum of squares of each.
void sums_of_squares(const DeviceTensor& tensor, double* sums, const std::shared_ptr<Stream>& stream);

/// Of all elements of float32 tensors, in an order that is always the same; waits for the GPU.
double sum_of_squares(const std::vector<const DeviceTensor*>& tensors, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
