// Sequences of a packed batch, each multiplied by a factor; and the weighted sum of one number for each.
#pragma once
#include "cuda/device_tensor.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// x (frames, columns) *= factors[sequence] * upstream[0], in place. x: float32 or bfloat16; factors (sequences), upstream (1): float32.
void scale_sequences(const DeviceTensor& x, const PackedSequences& sequences, const DeviceTensor& factors, const DeviceTensor& upstream,
                     const std::shared_ptr<Stream>& stream);

/// total (1) = the sum of values times weights, always in the same order; infinite values count 0 with `zero_infinity`. All float32.
void weighted_sum(const DeviceTensor& values, const DeviceTensor& weights, bool zero_infinity, const DeviceTensor& total,
                  const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
