// The gated linear unit as an operation of its own; a product whose weight was packed for it does it at no cost instead.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// y = x[:, :channels] * sigmoid(x[:, channels:]). x (frames, 2 channels), y (frames, channels): 16-bit floats of one type.
void gated_linear_unit(const DeviceMatrix& x, const DeviceMatrix& y, const Stream& stream);
/// From the gradient (frames, channels) of y, that of x (frames, 2 channels).
void gated_linear_unit_backward(const DeviceMatrix& x, const DeviceMatrix& gradient, const DeviceMatrix& gradient_x,
                                const Stream& stream);

}  // namespace usmlite::cuda
