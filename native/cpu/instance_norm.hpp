// Normalization of every channel over the frames of its sequence: group normalization (Wu, He 2018) with one channel in each
// group, which wav2vec 2.0 applies to its first convolution.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

USMLITE_FOR_EACH_ISA(
  // y = (x - mean) / sqrt(variance + epsilon) * weight + bias, with the biased variance; x and y (frames, channels), offsets
  // (sequences + 1)
  void instance_norm(const float* x, const int32_t* offsets, int64_t sequences, int64_t channels, const float* weight,
                     const float* bias, float epsilon, float* y);
)
USMLITE_DISPATCH(instance_norm)

}  // namespace usmlite::cpu
