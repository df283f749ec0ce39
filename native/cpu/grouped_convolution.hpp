// Convolution over time in which groups of channels see only each other: the positional convolution of wav2vec 2.0.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

struct GroupedConvolution {
  const int32_t* offsets;  // (sequences + 1)
  int64_t sequences;
  int64_t in, out, groups, kernel;
  int64_t left;  // zeros before a sequence, 0 .. kernel - 1; kernel - 1 - left lie behind it

  int64_t group_in() const { return in / groups; }
  int64_t group_out() const { return out / groups; }
};

USMLITE_FOR_EACH_ISA(
  // y(frames, out) = bias(out) + weight (out, kernel, in / groups) over the frames of each sequence of x(frames, in); bias may be
  // null
  void grouped_convolution(const GroupedConvolution& convolution, const float* x, const float* weight, const float* bias, float* y);
  // From the gradient of y: that of x (null where not wanted); those of weight and bias are added to (null where not wanted).
  void grouped_convolution_backward(const GroupedConvolution& convolution, const float* x, const float* weight, const float* gradient,
                                    float* gradient_x, float* gradient_weight, float* gradient_bias);
)
USMLITE_DISPATCH(grouped_convolution)
USMLITE_DISPATCH(grouped_convolution_backward)

}  // namespace usmlite::cpu
