// Rounding floats to 16 bits, and widening them again.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// Between kFloat32 and kBFloat16 or kFloat16, in either direction; same shapes. Rounds to nearest, ties to even.
void cast(const DeviceMatrix& from, const DeviceMatrix& to, const Stream& stream);

}  // namespace usmlite::cuda
