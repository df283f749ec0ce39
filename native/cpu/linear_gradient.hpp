// Backward pass of what a linear layer does after its matrix product.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"
#include "cpu/matmul_epilogue.hpp"

namespace usmlite::cpu {

struct LinearGradient {
  int64_t frames = 0, features = 0;
  const float* gradient = nullptr;        // (frames, features) of the layer's output
  // (frames, features): x.W + bias. For relu anything with the same sign will do. Unused without an activation.
  const float* pre_activation = nullptr;
  Activation activation = Activation::kNone;
  Dropout dropout;
  float scale = 1.0f;
};

USMLITE_FOR_EACH_ISA(
  // sum_gradient (frames, features) = gradient * scale * dropout factor * activation'(pre_activation), and, where
  // bias_gradient (features) is given, its sum over the frames. sum_gradient may be null when only the latter is wanted.
  void linear_gradient(const LinearGradient& layer, float* sum_gradient, float* bias_gradient);
)
USMLITE_DISPATCH(linear_gradient)

}  // namespace usmlite::cpu
