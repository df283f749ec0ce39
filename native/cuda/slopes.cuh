// Derivatives of activations.
#pragma once

#include "cuda/matmul_epilogue.cuh"

namespace usmlite::cuda {

/// d/dx x s(x) = s (1 + x (1 - s)), because s' = s (1 - s)
__device__ __forceinline__ float silu_slope(float x) {
  const float s = sigmoid(x);
  return s * (1.0f + x * (1.0f - s));
}

/// d/dx x Φ(x) = Φ(x) + x φ(x) with the density φ of the normal distribution
__device__ __forceinline__ float gelu_slope(float x) {
  constexpr float kHalfLog2E = 0.72134752044448170f, kDensityOfZero = 0.39894228040143268f;
  return 0.5f * (1.0f + ptx::error_function(x * 0.70710678118654752f)) + x * kDensityOfZero * ptx::exponential_base_2(-kHalfLog2E * x * x);
}

}  // namespace usmlite::cuda
