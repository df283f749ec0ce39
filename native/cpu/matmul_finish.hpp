// The epilogue of a matrix product over float vectors.
#pragma once
#include "cpu/dropout_mask.hpp"
#include "cpu/matmul_epilogue.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// max(x, 0); NaN stays NaN, because the second operand of max is returned when either is NaN.
inline Vector relu(Vector x) { return maximum(Vector::zero(), x); }

inline Vector silu(Vector x) { return x * sigmoid(x); }

/// x times the normal distribution function of x, to about 2e-7 |x|: erf after Abramowitz and Stegun, 7.1.26.
inline Vector gelu(Vector x) {
  const Vector one = Vector::all(1.0f), z = absolute(x) * Vector::all(0.70710678f);
  const Vector t = one / multiply_add(Vector::all(0.3275911f), z, one);
  Vector p = Vector::all(1.061405429f);
  for (const float coefficient : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) {
    p = multiply_add(p, t, Vector::all(coefficient));
  }
  const Vector tail = p * t * exponential(Vector::zero() - z * z) * Vector::all(0.5f);  // 1 - the function, at |x|
  return x * select_greater(Vector::zero(), x, tail, one - tail);
}

/// c[at..] = epilogue(sums) for `count` sums of one row, the first of them in `column` of n. `at` is the place of that
/// element in c, pre_activation and residual.
inline void finish_row(const float* sums, int64_t count, int64_t row, int64_t column, int64_t n, int64_t at, float* c,
                       const MatmulEpilogue& epilogue) {
  const Vector scale = Vector::all(epilogue.scale);
  const DropoutMask mask(epilogue.dropout);
  const auto finish = [&](int64_t i, int64_t lanes, Vector multiplier) __attribute__((always_inline)) {
    Vector x = Vector::load(sums + i, lanes);
    if (epilogue.bias) x = x + Vector::load(epilogue.bias + column + i, lanes);
    if (epilogue.pre_activation) x.store(epilogue.pre_activation + at + i, lanes);
    if (epilogue.activation == Activation::kRelu) x = relu(x);
    if (epilogue.activation == Activation::kSilu) x = silu(x);
    if (epilogue.activation == Activation::kGelu) x = gelu(x);
    x = x * (scale * multiplier);
    if (epilogue.residual) {
      x = multiply_add(Vector::all(epilogue.residual_scale), Vector::load(epilogue.residual + at + i, lanes), x);
    }
    x.store(c + at + i, lanes);
  };
  for_each_masked(mask, row * n + column, count, finish);
}

}  // namespace usmlite::cpu::USMLITE_ISA
