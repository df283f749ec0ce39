// Transposed copies of matrices.
#pragma once
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// y (columns, rows) of x (rows, columns): float32 or 16-bit floats, bits as they are.
void transpose(const DeviceTensor& x, const DeviceTensor& y, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
