// The first stage of two sums for each channel over frames (sum_parts.hpp has the second): a warp takes frames one after another, a lane
// 8 channels, and the warps of a block are added in one order.
#pragma once

#include "cuda/row_values.cuh"

namespace usmlite::cuda {

namespace channel_sums {

inline constexpr int kVector = kHalvesPerVector, kWarps = 8, kThreads = 32 * kWarps, kChannels = 32 * kVector;
inline constexpr size_t kSharedBytes = 2 * kWarps * kChannels * sizeof(float);

/// Of a lane's 8 channels.
struct LaneSums {
  float first[kVector] = {}, second[kVector] = {};

  /// x - origin and its square: small numbers where deviations are smaller than the mean.
  __device__ __forceinline__ void add_deviation(const float (&x)[kVector], const float (&origin)[kVector]) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float difference = x[i] - origin[i];
      first[i] += difference;
      second[i] += difference * difference;
    }
  }

  /// Writes those of the block's kChannels channels to `row` (2, kChannels gridDim.x).
  __device__ __forceinline__ void store(float* row, float* of_warps, int lane, int warp) const {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      of_warps[2 * warp * kChannels + lane * kVector + i] = first[i];
      of_warps[(2 * warp + 1) * kChannels + lane * kVector + i] = second[i];
    }
    ptx::block_sync();
    for (int which = 0; which < 2; ++which) {
      float sum = 0.0f;
      for (int other = 0; other < kWarps; ++other) sum += of_warps[(2 * other + which) * kChannels + threadIdx.x];
      row[(which * static_cast<int64_t>(gridDim.x) + blockIdx.x) * kChannels + threadIdx.x] = sum;
    }
  }
};

}  // namespace channel_sums

}  // namespace usmlite::cuda
