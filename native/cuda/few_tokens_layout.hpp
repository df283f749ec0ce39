// Where things lie in the shared memory of a product with few tokens (few_tokens_ring.cuh): computed once for a launch, so that
// a kernel finds these numbers among its arguments, where they take no registers and no time before its first copies.
//
// A word that the thread block shares, then the ring of each team: stages of codes, metadata, activations, scales of groups.
#pragma once
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "cuda/few_tokens_plan.hpp"

namespace usmlite::cuda {

/// Rows of 64 numbers that the groups of inputs in a chunk have for each block.
inline int chunk_group_rows(const WeightView& w) {
  const int inputs = chunk_inputs(w.codes, w.sparse);
  return (w.group_size == 0 ? 0 : w.group_size >= inputs ? 1 : inputs / w.group_size) * rows_per_group(w.codes);
}
inline size_t few_tokens_stage_bytes(const WeightView& w, int band_blocks, int tokens) {
  return static_cast<size_t>(band_blocks) * (chunk_code_bytes(w.codes, w.sparse) + chunk_metadata_bytes(w.sparse) +
                                             chunk_group_rows(w) * kBlockChannels * 2) +
         static_cast<size_t>(tokens) * chunk_row_bytes(w.codes, w.arithmetic, w.sparse);
}
/// Before the rings there is a word that the thread block shares; after the last chunk the teams' sums take their place.
/// Stages lie at multiples of 128 bytes: off these, where each row of a copy takes two passes over the banks, an H100 needs
/// a sixth to a third more time.
inline constexpr int kRingOffset = 128;
inline size_t few_tokens_shared_bytes(const WeightView& w, const FewTokensPlan& plan, int tokens, int stages) {
  const size_t rings = stages * few_tokens_stage_bytes(w, plan.band_blocks, tokens);
  const size_t sums = static_cast<size_t>(tokens) * (plan.band_blocks * kBlockChannels + 4) * 4;
  return kRingOffset + plan.teams * (rings > sums ? rings : sums);
}
/// As many as there is memory for; they do not change results.
inline int few_tokens_stages(const WeightView& w, const FewTokensPlan& plan, int tokens) {
  int stages = kMostStages;
  while (stages > kFewestStages && few_tokens_shared_bytes(w, plan, tokens, stages) > plan.shared_bytes) --stages;
  return stages;
}

struct FewTokensLayout {
  int stages, stage_bytes;
  int chunks_ahead;                             // from the one that is multiplied to the one that is fetched
  int metadata_offset, x_offset, scale_offset;  // in a stage
  int band_shift, group_shift;                  // logarithms of the blocks of a band and of the inputs of a group
  int chunk_rows, rows;                         // that groups have for a block, in a chunk and in all; 0 without groups
  int group_bytes;                              // from one row of scales to the next
  // Bit i: a group ends with step i of a chunk (of the tensor cores' 16 inputs, 32 if sparse); with zero points it begins with it.
  uint32_t group_ends;
};

inline FewTokensLayout few_tokens_layout(const WeightView& w, const FewTokensPlan& plan, int tokens, int stages) {
  const int inputs = chunk_inputs(w.codes, w.sparse), group_size = element_bytes(w.arithmetic) == 2 ? w.group_size : 0;
  FewTokensLayout l{};
  l.stages = stages, l.stage_bytes = static_cast<int>(few_tokens_stage_bytes(w, plan.band_blocks, tokens));
  l.chunks_ahead = (stages - 1) * plan.teams;
  l.metadata_offset = plan.band_blocks * chunk_code_bytes(w.codes, w.sparse);
  l.x_offset = l.metadata_offset + plan.band_blocks * chunk_metadata_bytes(w.sparse);
  l.scale_offset = l.x_offset + tokens * chunk_row_bytes(w.codes, w.arithmetic, w.sparse);
  l.band_shift = std::countr_zero(static_cast<unsigned>(plan.band_blocks));
  if (group_size == 0) return l;
  l.group_shift = std::countr_zero(static_cast<unsigned>(group_size));
  l.chunk_rows = chunk_group_rows(w), l.rows = group_count(w.inputs, group_size) * rows_per_group(w.codes);
  l.group_bytes = plan.band_blocks * kBlockChannels * 2;
  const int step_inputs = w.sparse ? 32 : 16, boundary = has_zero_points(w.codes) ? 0 : step_inputs;
  for (int step = 0; step < inputs / step_inputs; ++step) {
    if ((step * step_inputs + boundary) % std::min(group_size, inputs) == 0) l.group_ends |= 1u << step;
  }
  return l;
}

}  // namespace usmlite::cuda
