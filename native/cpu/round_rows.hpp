// Rows of activations as products of whole numbers see them, in floats.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"
#include "cpu/packed_matmul.hpp"

namespace usmlite::cpu {

USMLITE_FOR_EACH_ISA(
  // output = scale * (code - zero point) of every element, coded as ActivationCoding says. A row with NaN or infinity
  // becomes NaN.
  void round_rows(const float* x, int64_t rows, int64_t columns, ActivationCoding coding, float* output);
)
USMLITE_DISPATCH(round_rows)

}  // namespace usmlite::cpu
