// Depthwise convolution over time of packed sequences: each channel has its own kernel, zeros lie outside a sequence.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

struct DepthwiseShape {
  const int32_t* offsets;  // (sequences + 1)
  int64_t sequences;
  int64_t channels;
  int64_t kernel;
  int64_t left;  // zeros before a sequence, 0 .. kernel - 1; kernel - 1 - left lie behind it
};

USMLITE_FOR_EACH_ISA(
  // y[t, c] = activation(bias[c] + sum_k weight[c, k] x[t + k - left, c]); bias may be null
  void depthwise_forward(const DepthwiseShape& shape, const float* x, const float* weight, const float* bias, bool silu,
                         float* y);
  // Gradients without activation; any of the three outputs may be null.
  void depthwise_backward(const DepthwiseShape& shape, const float* x, const float* weight, const float* gradient,
                          float* gradient_x, float* gradient_weight, float* gradient_bias);
)
USMLITE_DISPATCH(depthwise_forward)
USMLITE_DISPATCH(depthwise_backward)

}  // namespace usmlite::cpu
