// The product of two rows.
#pragma once
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

inline float dot(const float* x, const float* y, int64_t count) {
  Vector sum = Vector::zero();
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    sum = multiply_add(Vector::load(x + i, lanes), Vector::load(y + i, lanes), sum);
  });
  return sum.sum();
}

}  // namespace usmlite::cpu::USMLITE_ISA
