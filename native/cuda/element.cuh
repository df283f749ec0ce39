// Elements of float32 and 16-bit tensors, read as floats and rounded once when written.
#pragma once
#include "cuda/kernel_language.cuh"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {

/// Beside BFloat16 and Float16.
struct Float32 {};

template <typename T> struct Element {
  using Type = uint16_t;
  static __device__ __forceinline__ float load(const uint16_t* x) { return ptx::to_float<T>(*x); }
  static __device__ __forceinline__ void store(uint16_t* y, float value) { *y = ptx::from_float<T>(value); }
};
template <> struct Element<Float32> {
  using Type = float;
  static __device__ __forceinline__ float load(const float* x) { return *x; }
  static __device__ __forceinline__ void store(float* y, float value) { *y = value; }
};

}  // namespace usmlite::cuda
