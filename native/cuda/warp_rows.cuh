// Kernels of which each warp takes a row, or a frame, of its own.
#pragma once
#include "cuda/ptx.cuh"

namespace usmlite::cuda {

inline constexpr int kWarpsPerBlock = 4;

inline unsigned blocks_of_warps(int64_t rows) { return static_cast<unsigned>((rows + kWarpsPerBlock - 1) / kWarpsPerBlock); }

/// The row of the calling warp. Of the last block's warps some may have none: it is beyond the last row then.
__device__ __forceinline__ int64_t row_of_warp() { return static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + ptx::warp_id(); }

}  // namespace usmlite::cuda
