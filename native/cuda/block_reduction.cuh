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

struct Larger {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct Sum {
  template <typename T> __device__ __forceinline__ T operator()(T a, T b) const { return a + b; }
};

}  // namespace usmlite::cuda
