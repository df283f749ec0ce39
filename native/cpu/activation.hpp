// Activations and dropout. Backward passes compute the activation again from its input instead of storing it.
#pragma once
#include <cstdint>

#include "core/dropout.hpp"
#include "core/instruction_set.hpp"

namespace usmlite::cpu {

USMLITE_FOR_EACH_ISA(
  // y = x sigmoid(x), times the dropout multiplier of its index
  void silu_forward(const float* x, const Dropout& dropout, float* y, int64_t count);
  void silu_backward(const float* x, const float* gradient, const Dropout& dropout, float* gradient_x, int64_t count);
  // y = max(x, 0); NaN stays
  void relu_forward(const float* x, float* y, int64_t count);
  // y = x times the dropout multiplier of its index; its own backward pass
  void apply_dropout(const float* x, const Dropout& dropout, float* y, int64_t count);
  // y(frames, channels) = x[:, :channels] sigmoid(x[:, channels:]) of x(frames, 2 channels)
  void glu_forward(const float* x, float* y, int64_t frames, int64_t channels);
  void glu_backward(const float* x, const float* gradient, float* gradient_x, int64_t frames, int64_t channels);
)
USMLITE_DISPATCH(silu_forward)
USMLITE_DISPATCH(silu_backward)
USMLITE_DISPATCH(relu_forward)
USMLITE_DISPATCH(apply_dropout)
USMLITE_DISPATCH(glu_forward)
USMLITE_DISPATCH(glu_backward)

}  // namespace usmlite::cpu
