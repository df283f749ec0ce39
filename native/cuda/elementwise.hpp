// Elementwise arithmetic.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// sum = a x + b y, in float32; `sum` may be x or y. Float tensors of one type and shape.
void scaled_sum(const DeviceMatrix& x, float a, const DeviceMatrix& y, float b, const DeviceMatrix& sum,
                const Stream& stream);

/// product = x y; float32 tensors of one shape.
void multiply(const DeviceMatrix& x, const DeviceMatrix& y, const DeviceMatrix& product, const Stream& stream);

/// x = max(x, least); float32.
void raise_to(const DeviceMatrix& x, float least, const Stream& stream);

}  // namespace usmlite::cuda
