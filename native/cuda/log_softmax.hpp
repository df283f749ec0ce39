// Logarithms of the probabilities of each row.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// y (rows, columns) float32 = x - log(sum(exp(x))) over each row of x (rows, columns), 16-bit floats. A row that holds NaN, or only
/// negative infinity, becomes NaN.
void log_softmax(const DeviceMatrix& x, const DeviceMatrix& y, const Stream& stream);

}  // namespace usmlite::cuda
