// Gaussian error linear unit (Hendrycks, Gimpel 2016), exact: x times the normal distribution function.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

USMLITE_FOR_EACH_ISA(
  void gelu(const float* x, float* y, int64_t count);
)
USMLITE_DISPATCH(gelu)

}  // namespace usmlite::cpu
