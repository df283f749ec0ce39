// Rows of small matrices, each transposed.
#pragma once
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// x (rows, outer * inner) as y (rows, inner * outer), both 16-bit floats.
void swap_column_axes(const DeviceTensor& x, int outer, const DeviceTensor& y, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
