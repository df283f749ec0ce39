// Sequences of a packed batch, each multiplied by a factor; and the weighted sum of one number for each.
#pragma once
#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// x (frames, columns) *= factors[sequence] * upstream[0], in place. x: float32 or bfloat16; factors (sequences), upstream (1): float32.
void scale_sequences(const DeviceMatrix& x, const PackedSequences& sequences, const DeviceMatrix& factors, const DeviceMatrix& upstream,
                     const Stream& stream);

/// total (1) = the sum of values times weights, always in the same order; infinite values count 0 with `zero_infinity`. All float32.
void weighted_sum(const DeviceMatrix& values, const DeviceMatrix& weights, bool zero_infinity, const DeviceMatrix& total,
                  const Stream& stream);

}  // namespace usmlite::cuda
