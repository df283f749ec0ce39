// The epilogue of a matrix product, one element at a time.
#pragma once
#include <cmath>

#include "cpu/matmul_epilogue.hpp"

namespace usmlite::cpu::reference {

inline float activate(float x, Activation activation) {
  switch (activation) {
    case Activation::kRelu: return x < 0.0f ? 0.0f : x;
    case Activation::kSilu: return x / (1.0f + std::exp(-x));
    case Activation::kGelu: return 0.5f * x * (1.0f + std::erf(x * 0.70710678f));
    default: return x;
  }
}

/// The result for `sum`, element (row, column) of n columns, stored at `at`.
inline float finish(float sum, int64_t at, int64_t row, int64_t column, int64_t n, const MatmulEpilogue& epilogue) {
  if (epilogue.bias) sum += epilogue.bias[column];
  if (epilogue.pre_activation) epilogue.pre_activation[at] = sum;
  float result = activate(sum, epilogue.activation);
  result *= epilogue.dropout.multiplier(row * n + column);
  result *= epilogue.scale;
  if (epilogue.residual) result += epilogue.residual_scale * epilogue.residual[at];
  return result;
}

}  // namespace usmlite::cpu::reference
