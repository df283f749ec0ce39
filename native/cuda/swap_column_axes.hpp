// Rows of small matrices, each transposed.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// x (rows, outer * inner) as y (rows, inner * outer), both 16-bit floats.
void swap_column_axes(const DeviceMatrix& x, int outer, const DeviceMatrix& y, const Stream& stream);

}  // namespace usmlite::cuda
