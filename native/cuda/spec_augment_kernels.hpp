// The kernels of SpecAugment: means of utterances, and what they replace.
#pragma once
#include "cuda/spec_augment.hpp"

namespace usmlite::cuda {

/// `Masks` in the memory of the GPU.
struct MaskArguments {
  const int32_t *offsets, *intervals;
  float* means;  // (sequences), written and read
};

/// At least one sequence has frames.
void mask_with_means(const DeviceMatrix& features, const PackedSequences& sequences, const MaskArguments& masks, const Stream& stream);

}  // namespace usmlite::cuda
