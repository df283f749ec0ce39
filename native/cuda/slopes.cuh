// Derivatives of activations.
#pragma once

#include "cuda/matmul_epilogue.cuh"

namespace usmlite::cuda {

/// d/dx x s(x) = s (1 + x (1 - s)), because s' = s (1 - s)
__device__ __forceinline__ float silu_slope(float x) {
  const float s = sigmoid(x);
  return s * (1.0f + x * (1.0f - s));
}

}  // namespace usmlite::cuda
