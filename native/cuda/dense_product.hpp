// Products of two matrices on the GPU, neither of them packed.
#pragma once
#include <memory>

#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// x Wᵀ for x (tokens, inputs) and w (channels, inputs), both kBFloat16 or both kFloat16; sums in float32, rounded once.
/// By cuBLASLt where the machine has it, which is a little faster, by our own kernels otherwise.
/// Throws INVALID_ARGUMENT when types or shapes do not fit.
DeviceTensor dense_product(const DeviceTensor& x, const DeviceTensor& w, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
