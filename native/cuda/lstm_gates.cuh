// What a long short-term memory does to the sums of its gates (Hochreiter, Schmidhuber 1997).
#pragma once

#include "cuda/natural_logarithm.cuh"

namespace usmlite::cuda::lstm {

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }
__device__ __forceinline__ float hyperbolic_tangent(float x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

}  // namespace usmlite::cuda::lstm
