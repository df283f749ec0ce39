// Several sequences of frames, one after another in one matrix.
#pragma once
#include <cstdint>

namespace usmlite::cuda {

/// Sequence i is the rows offsets[i] to offsets[i + 1], or, with `rows`, those that `rows` names there.
struct PackedSequences {
  const int32_t* offsets;  // (count + 1), in the memory of the GPU
  int count;
  int longest;                    // frames
  const int32_t* rows = nullptr;  // in the memory of the GPU; only attention over a cache takes sequences of such
};

/// How a convolution shortens sequences: n frames become (n + 2 padding - kernel) / stride + 1, rounded down, or none.
struct Shortening {
  int kernel, stride, padding;
  int64_t length(int64_t frames) const;
};

}  // namespace usmlite::cuda
