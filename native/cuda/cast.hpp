// Rounding floats to 16 bits, and widening them again.
#pragma once
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// Between kFloat32 and kBFloat16 or kFloat16, in either direction; same shapes. Rounds to nearest, ties to even.
void cast(const DeviceTensor& from, const DeviceTensor& to, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
