// Powers and logarithms of base e, from those of base 2 that GPUs compute.
#pragma once
#include "cuda/ptx.cuh"

namespace usmlite::cuda {

inline constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

__device__ __forceinline__ float exponential(float x) { return ptx::exponential_base_2(x * kLog2E); }
__device__ __forceinline__ float logarithm(float x) { return kLn2 * ptx::logarithm_base_2(x); }

}  // namespace usmlite::cuda
