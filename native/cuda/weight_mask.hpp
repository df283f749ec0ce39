// N:M masks of weights, and multiplying by them, in training on the GPU.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// codec::magnitude_mask of every row, kInt8.
void magnitude_mask(const DeviceMatrix& weight, int kept, int of, const DeviceMatrix& mask, const Stream& stream);

/// y = mask ? x : pruned * x, never -0; float32.
void apply_mask(const DeviceMatrix& x, const DeviceMatrix& mask, float pruned, const DeviceMatrix& y, const Stream& stream);

/// Blocks that count, each its part.
inline constexpr int kMaskChangeCounts = 64;

/// counts (kMaskChangeCounts) float32: where `before` and `after`, both kInt8 of one shape, differ. Their sum is the number.
void count_mask_changes(const DeviceMatrix& before, const DeviceMatrix& after, const DeviceMatrix& counts, const Stream& stream);

}  // namespace usmlite::cuda
