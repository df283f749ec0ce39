// Where sequences lie after a convolution, worked out on the GPU.
#pragma once
#include "cuda/packed_sequences.hpp"
#include "cuda/runtime.hpp"

namespace usmlite::cuda {

/// `after` (count + 1): the offsets of the shortened sequences.
void shorten_sequences(const PackedSequences& before, const Shortening& shortening, int32_t* after, StreamHandle stream);

}  // namespace usmlite::cuda
