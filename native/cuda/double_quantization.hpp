// Scales that are themselves quantized, in training on the GPU: codec/double_quantization.hpp.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// Scales that say nothing, which are marked by a minus sign, become the mean of the others.
/// scale: float32 (rows, groups per row)
void replace_unmeasured_scales(const DeviceMatrix& scale, const Stream& stream);

/// What the codes of positive, finite scales stand for, in a tensor of the same shape. Where one is no such scale, which is an error on the
/// CPU, all become NaN, and so does what is multiplied by them.
void quantize_scales(const DeviceMatrix& scale, const DeviceMatrix& quantized, const Stream& stream);

}  // namespace usmlite::cuda
