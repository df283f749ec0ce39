// What front ends do with features in the light of all frames of an utterance.
#pragma once
#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// (x - mean) / (sqrt(variance + added_variance) + added_deviation)
struct Normalisation {
  double added_variance, added_deviation;
  bool of_sample;  // the variance is over frames - 1, not over frames
};

/// Every column of each sequence gets mean 0 and (nearly) deviation 1. x float32 (frames, columns), or (frames), which is one column.
/// y float32 (frames of `stacked`, columns * per_frame), or as x: `per_frame` frames of x lie side by side in one of y. Those behind the
/// last that y has room for are left out, but count.
void normalise_columns(const DeviceMatrix& x, const PackedSequences& sequences, const Normalisation& normalisation, const DeviceMatrix& y,
                       const PackedSequences& stacked, int per_frame, const Stream& stream);

/// Whisper's: natural logarithms, in place, to (l + 4) / 4, where l is to base ten and at least the largest of its sequence less `range`.
/// features float32 (frames, bins).
void limit_range(const DeviceMatrix& features, const PackedSequences& sequences, double range, const Stream& stream);

}  // namespace usmlite::cuda
