// Layer normalisation of every frame.
#pragma once
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// y = (x - mean) / sqrt(variance + epsilon) * weight + bias over the columns of each row, in float32.
/// x, y (frames, hidden): 16-bit floats of one type; weight, bias (hidden): float32; bias may be null.
void layer_norm(const DeviceTensor& x, const DeviceTensor& weight, const DeviceTensor* bias, float epsilon, const DeviceTensor& y,
                const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
