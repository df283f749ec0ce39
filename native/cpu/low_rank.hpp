// Low-rank additions to a linear layer, a different one for each run of rows: adapters of many speakers in one batch.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"
#include "cpu/matmul_epilogue.hpp"

namespace usmlite::cpu {

/// Rows [begin, end) that share an adapter of this rank; rank 0: none.
struct LowRankSegment {
  int64_t begin = 0, end = 0;
  int64_t rank = 0;
  const float* down = nullptr;  // (rank, in)
  const float* up = nullptr;    // (rank, out)
};

USMLITE_FOR_EACH_ISA(
  // y (rows, out) = activation(y + scale * (x downᵀ) up) for the rows of each segment, x (rows, in): segmented low-rank
  // products over one batch, as in Punica (Chen et al., MLSys 2024). Segments do not overlap; rows in none stay as they
  // are. kNone, kRelu or kSilu. A row's result depends neither on the other rows nor on the number of threads.
  void low_rank_add(const LowRankSegment* segments, int64_t count, int64_t in, int64_t out, const float* x, float* y,
                    float scale, Activation activation);
)
USMLITE_DISPATCH(low_rank_add)

}  // namespace usmlite::cpu
