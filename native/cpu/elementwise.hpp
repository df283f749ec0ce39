// Elementwise arithmetic on float vectors.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

USMLITE_FOR_EACH_ISA(
  // y[i] += x[i]
  void add_in_place(const float* x, float* y, int64_t count);
  // y[i] = a * x[i] + b * y_in[i]; y may be x or y_in
  void scaled_sum(const float* x, float a, const float* y_in, float b, float* y, int64_t count);
)
USMLITE_DISPATCH(add_in_place)
USMLITE_DISPATCH(scaled_sum)

}  // namespace usmlite::cpu
