// Maxima and sums over the threads of a block, in an order that is always the same.
#pragma once
#include "cuda/kernel_language.cuh"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {

/// `combine` over the values of a warp's lanes; all lanes get it.
template <typename T, typename Combine> __device__ __forceinline__ T warp_reduce(T value, Combine&& combine) {
  for (int distance = 16; distance > 0; distance /= 2) value = combine(value, ptx::shuffle_xor(value, distance));
  return value;
}

/// `combine` over the values of all threads of a block of kWarps warps, none of which may be missing; all threads get it.
/// `of_warps`: kWarps values in shared memory, free again after the next block_sync.
template <int kWarps, typename T, typename Combine> __device__ __forceinline__ T block_reduce(T value, T* of_warps, Combine&& combine) {
  value = warp_reduce(value, combine);
  const int warp = ptx::warp_id();
  if (ptx::lane_id() == 0) of_warps[warp] = value;
  ptx::block_sync();
  T result = of_warps[0];
  for (int i = 1; i < kWarps; ++i) result = combine(result, of_warps[i]);
  return result;
}

/// Sums of kCount values over all threads of a block of kWarps warps, none of which may be missing; all threads get them.
/// `of_warps`: kWarps * kCount values in shared memory, free again after the next block_sync.
template <int kWarps, int kCount, typename T> __device__ __forceinline__ void block_sums(T (&values)[kCount], T* of_warps) {
  const auto add = [](T a, T b) { return a + b; };
  const int warp = ptx::warp_id(), lane = ptx::lane_id();
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    values[i] = warp_reduce(values[i], add);
    if (lane == 0) of_warps[warp * kCount + i] = values[i];
  }
  ptx::block_sync();
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    values[i] = of_warps[i];
    for (int other = 1; other < kWarps; ++other) values[i] += of_warps[other * kCount + i];
  }
}

struct Larger {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct Sum {
  template <typename T> __device__ __forceinline__ T operator()(T a, T b) const { return a + b; }
};

}  // namespace usmlite::cuda
