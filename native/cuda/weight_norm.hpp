// Weight normalisation of a convolution (Salimans, Kingma 2016): each tap has the length that a gain says.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// weight (out, taps * in) = gain[tap] * direction / |direction of the tap|, over all outputs and inputs; gain (1, taps). All float32.
void weight_norm(const DeviceMatrix& gain, const DeviceMatrix& direction, const DeviceMatrix& weight, const Stream& stream);

/// From the gradient of the weight those of gain and direction.
void weight_norm_backward(const DeviceMatrix& gain, const DeviceMatrix& direction, const DeviceMatrix& gradient, const DeviceMatrix& gradient_gain,
                          const DeviceMatrix& gradient_direction, const Stream& stream);

}  // namespace usmlite::cuda
