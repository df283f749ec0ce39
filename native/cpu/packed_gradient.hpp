// The backward pass of a linear layer with a packed, frozen weight.
#pragma once
#include <cstdint>

#include "codec/packed_matrix.hpp"
#include "core/instruction_set.hpp"

namespace usmlite::cpu {

USMLITE_FOR_EACH_ISA(
  // gradient_x (m, columns of the weight) = scale * gradient_y (m, rows of the weight) . weight, from the packed codes: a
  // few panels at a time become floats, so that no float copy of the weight is ever in memory.
  void packed_gradient(const codec::PackedMatrix& weight, int64_t m, const float* gradient_y, float scale, float* gradient_x);
)
USMLITE_DISPATCH(packed_gradient)

}  // namespace usmlite::cpu
