// Logarithms of the probabilities of each row.
#pragma once
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// y (rows, columns) float32 = x - log(sum(exp(x))) over each row of x (rows, columns), 16-bit floats. A row that holds NaN, or only
/// negative infinity, becomes NaN.
void log_softmax(const DeviceTensor& x, const DeviceTensor& y, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
