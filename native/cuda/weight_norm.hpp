// Weight normalisation of a convolution (Salimans, Kingma 2016): each tap has the length that a gain says.
#pragma once
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// weight (out, taps * in) = gain[tap] * direction / |direction of the tap|, over all outputs and inputs; gain (1, taps). All float32.
void weight_norm(const DeviceTensor& gain, const DeviceTensor& direction, const DeviceTensor& weight, const std::shared_ptr<Stream>& stream);

/// From the gradient of the weight those of gain and direction.
void weight_norm_backward(const DeviceTensor& gain, const DeviceTensor& direction, const DeviceTensor& gradient, const DeviceTensor& gradient_gain,
                          const DeviceTensor& gradient_direction, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
