// Transposed copies of matrices.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// y (columns, rows) of x (rows, columns): float32 or 16-bit floats, bits as they are.
void transpose(const DeviceMatrix& x, const DeviceMatrix& y, const Stream& stream);

}  // namespace usmlite::cuda
