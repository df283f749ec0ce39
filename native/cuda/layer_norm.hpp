// Layer normalisation of every frame.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// weight, bias (hidden): float32; bias may be null. y (frames, hidden): 16-bit floats.
struct LayerNorm {
  const DeviceMatrix *weight, *bias, *y;
};

/// y = (x - mean) / sqrt(variance + epsilon) * weight + bias over the columns of each row, in float32; `next`, unless it is null, does the
/// same to y in the same launch. x (frames, hidden): 16-bit floats of y's type.
void layer_norm(const DeviceMatrix& x, float epsilon, const LayerNorm& norm, const LayerNorm* next, const Stream& stream);

}  // namespace usmlite::cuda
