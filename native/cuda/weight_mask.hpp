// N:M masks of weights, and multiplying by them, in training on the GPU.
#pragma once
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// codec::magnitude_mask of every row, kInt8.
void magnitude_mask(const DeviceTensor& weight, int kept, int of, const DeviceTensor& mask, const std::shared_ptr<Stream>& stream);

/// y = mask ? x : pruned * x, never -0; float32.
void apply_mask(const DeviceTensor& x, const DeviceTensor& mask, float pruned, const DeviceTensor& y, const std::shared_ptr<Stream>& stream);

/// Blocks that count, each its part.
inline constexpr int kMaskChangeCounts = 64;

/// counts (kMaskChangeCounts) float32: where `before` and `after`, both kInt8 of one shape, differ. Their sum is the number.
void count_mask_changes(const DeviceTensor& before, const DeviceTensor& after, const DeviceTensor& counts, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
