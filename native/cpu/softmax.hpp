// Softmax and its logarithm over the last axis.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

USMLITE_FOR_EACH_ISA(
  // y = exp(x - max) / sum, over `columns` values of each row
  void softmax_forward(const float* x, float* y, int64_t rows, int64_t columns);
  // gradient_x = y (gradient - sum(gradient y))
  void softmax_backward(const float* y, const float* gradient, float* gradient_x, int64_t rows, int64_t columns);
  // y = x - max - log(sum(exp(x - max)))
  void log_softmax_forward(const float* x, float* y, int64_t rows, int64_t columns);
  // gradient_x = gradient - exp(y) sum(gradient)
  void log_softmax_backward(const float* y, const float* gradient, float* gradient_x, int64_t rows, int64_t columns);
)
USMLITE_DISPATCH(softmax_forward)
USMLITE_DISPATCH(softmax_backward)
USMLITE_DISPATCH(log_softmax_forward)
USMLITE_DISPATCH(log_softmax_backward)

}  // namespace usmlite::cpu
