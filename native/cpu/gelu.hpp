// Gaussian error linear unit (Hendrycks, Gimpel 2016), exact: x times the normal distribution function.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

USMLITE_FOR_EACH_ISA(
  void gelu(const float* x, float* y, int64_t count);
  // gradient_x = gradient * (distribution function + x * density)
  void gelu_backward(const float* x, const float* gradient, float* gradient_x, int64_t count);
)
USMLITE_DISPATCH(gelu)
USMLITE_DISPATCH(gelu_backward)

}  // namespace usmlite::cpu
