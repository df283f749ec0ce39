// Low-rank additions to a linear layer, a different one for each run of rows: adapters of many speakers in one batch.
#pragma once
#include <span>

#include "cuda/device_matrix.hpp"
#include "cuda/matmul_arguments.hpp"

namespace usmlite::cuda {

/// Larger ranks are more than a block of the kernel has shared memory for.
inline constexpr int64_t kLargestRank = 256;

/// Rows [begin, end) that share an adapter.
struct LowRankSegment {
  int64_t begin = 0, end = 0;
  const DeviceMatrix* down = nullptr;  // float32 (rank, in), rank at most kLargestRank; null: none
  const DeviceMatrix* up = nullptr;    // float32 (rank, out)
};

/// y (rows, out) = activation(y + scale * (x downᵀ) up) for the rows of each segment, x (rows, in): segmented low-rank products over one
/// batch, as in Punica (Chen et al., MLSys 2024). Sums in float32 in an order of their own for each row, so that a row's result depends on no
/// other; rounded once. x and y are 16-bit floats of one type. Rows in no segment stay as they are. kNone, kSilu or kRelu.
void low_rank_add(std::span<const LowRankSegment> segments, const DeviceMatrix& x, const DeviceMatrix& y, float scale, Activation activation,
                  const Stream& stream);

}  // namespace usmlite::cuda
