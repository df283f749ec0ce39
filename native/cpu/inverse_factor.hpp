// The triangular factor of an inverse, which second-order rounding reads its corrections from.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

/// What is added to the diagonal of `moments`: `damping` times its mean, or 1 where all of it is zero.
inline float damping_of(const float* moments, int64_t size, float damping) {
  double sum = 0.0;
  for (int64_t i = 0; i < size; ++i) sum += moments[i * size + i];
  return sum > 0.0 ? static_cast<float>(damping * sum / static_cast<double>(size)) : 1.0f;
}

USMLITE_FOR_EACH_ISA(
  // factor U (size, size), upper triangular, with Uᵀ U = (moments + damping_of(..) I)^-1. Only the upper triangle of the
  // symmetric `moments` is read. False where that matrix is not positive definite.
  //
  // With A = R Rᵀ, R upper triangular (the Cholesky decomposition begun at the last row), U is R^-1: two triangular
  // passes, where the usual way takes the decomposition of an inverse found from a decomposition.
  bool inverse_factor(const float* moments, int64_t size, float damping, float* factor);
)
USMLITE_DISPATCH(inverse_factor)

}  // namespace usmlite::cpu
