// Elementwise arithmetic.
#pragma once
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// sum = a x + b y, in float32; `sum` may be x or y. Float tensors of one type and shape.
void scaled_sum(const DeviceTensor& x, float a, const DeviceTensor& y, float b, const DeviceTensor& sum,
                const std::shared_ptr<Stream>& stream);

/// product = x y; float32 tensors of one shape.
void multiply(const DeviceTensor& x, const DeviceTensor& y, const DeviceTensor& product, const std::shared_ptr<Stream>& stream);

/// x = max(x, least); float32.
void raise_to(const DeviceTensor& x, float least, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
