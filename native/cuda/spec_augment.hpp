// SpecAugment (Park et al., Interspeech 2019): bands and stretches of features replaced by the mean of their utterance.
#pragma once
#include <cstdint>
#include <vector>

#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

struct Masks {
  /// (2 sequences + 1): where the intervals over bins, then those over frames, of each sequence begin, and the last ones end.
  std::vector<int32_t> offsets;
  /// (intervals, 2): begin and end.
  std::vector<int32_t> intervals;
};

/// features (frames, bins), bfloat16 or float32, in place.
void spec_augment(const DeviceMatrix& features, const PackedSequences& sequences, const Masks& masks, const Stream& stream);

}  // namespace usmlite::cuda
