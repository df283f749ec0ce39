// What a long short-term memory does to the sums of its gates (Hochreiter, Schmidhuber 1997).
#pragma once

#include "cuda/ptx.cuh"

namespace usmlite::cuda::lstm {

__device__ __forceinline__ float sigmoid(float x) {
  constexpr float kLog2E = 1.4426950408889634f;
  return 1.0f / (1.0f + ptx::exponential_base_2(-x * kLog2E));
}
__device__ __forceinline__ float hyperbolic_tangent(float x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

}  // namespace usmlite::cuda::lstm
