// How a product with few tokens is spread over a GPU, and how much shared memory that takes.
//
// Such a product reads each weight once and does little with it: what counts is that all multiprocessors stream weights
// all the time. The weight is cut into *bands* of one, two or four blocks of channels and the inputs into *chunks* of one
// or two slices. A *team* of warps, two for each block of the band, multiplies one band by one chunk at a time; the teams
// of a thread block take chunks in turn. Thread block i of n takes the i-th of n parts of the sequence (band, chunk), equal but for
// one chunk, which may begin and end inside a band ("stream-K", Osama et al., arXiv 2301.03598): then the blocks that have a part in
// a band leave their sums in memory, and the last of them to come adds all in the order of the inputs.
//
// Wide bands read activations less often; many thread blocks keep all multiprocessors busy; parts that end inside a band
// cost the addition. The plan depends on the weight and the GPU alone, never on the number of tokens, and so do the order
// of additions and the result.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/fragment_order.hpp"
#include "cuda/matmul_arguments.hpp"

namespace usmlite::cuda {

/// Tokens that a thread block multiplies at once, at most.
inline constexpr int kMostFewTokens = 32;
/// Threads of a block, at most: what a thread's registers leave room for. Products of e4m3 numbers take twice as many, since
/// Hopper widens them for `mma.sync`.
constexpr int few_tokens_threads(Arithmetic arithmetic) { return arithmetic == Arithmetic::kFloat8 ? 256 : 512; }

constexpr int element_bytes(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::kBFloat16 || arithmetic == Arithmetic::kFloat16 ? 2 : 1;
}

/// The inputs that a team multiplies between two barriers: about 16 KiB of codes for a band of four blocks.
constexpr int slices_per_chunk(Codes codes, bool sparse) { return !sparse && tile_bytes(codes) <= 512 ? 2 : 1; }
constexpr int chunk_inputs(Codes codes, bool sparse) { return slices_per_chunk(codes, sparse) * slice_inputs(sparse); }
/// Bytes of codes and of metadata of a block of channels.
constexpr int chunk_code_bytes(Codes codes, bool sparse) { return slices_per_chunk(codes, sparse) * 4 * tile_bytes(codes); }
constexpr int chunk_metadata_bytes(bool sparse) { return sparse ? 4 * kMetadataBytesPerTile : 0; }
/// Bytes of activations of a token.
constexpr int chunk_row_bytes(Codes codes, Arithmetic arithmetic, bool sparse) {
  return chunk_inputs(codes, sparse) * element_bytes(arithmetic);
}

/// Chunks of a team in shared memory at once: while one is multiplied, the others are on their way. More than four gain
/// nothing on an H100.
inline constexpr int kFewestStages = 2, kMostStages = 4;

struct FewTokensPlan {
  int band_blocks;    // 1, 2 or 4
  int teams;
  int bands, chunks;
  int thread_blocks;    // that share a band's or several bands' chunks
  int units, longer;    // chunks of bands that each of them takes, one or more; the first `longer` take one more
  int parts;            // of a band, each a thread block's; 0: equal parts for all multiprocessors, wherever bands begin
  size_t shared_bytes;  // that a thread block may use
  int threads() const { return teams * band_blocks * 64; }
  void spread_over(int blocks) {
    const int64_t all = int64_t{bands} * chunks;
    thread_blocks = blocks, units = static_cast<int>(all / blocks), longer = static_cast<int>(all % blocks);
  }
};

/// `shared_bytes`: of shared memory that a thread block may use. `may_share`: thread blocks may share a band (there is a
/// place for partial sums).
FewTokensPlan plan_few_tokens(const WeightView& weight, int multiprocessors, size_t shared_bytes, bool may_share);
/// All that may be fastest, the one that plan_few_tokens chooses first. Empty where there is too little shared memory.
std::vector<FewTokensPlan> few_tokens_plans(const WeightView& weight, int multiprocessors, size_t shared_bytes, bool may_share);

/// Whether thread blocks share bands, and so need partial sums and a counter for each band.
inline bool shares_bands(const FewTokensPlan& plan) {
  const int64_t units = int64_t{plan.bands} * plan.chunks;
  return units % plan.thread_blocks != 0 || units / plan.thread_blocks % plan.chunks != 0;
}
/// Partial sums (floats) that the plan takes for a tile of tokens.
inline int64_t partial_sum_count(const FewTokensPlan& plan, int tile_tokens) {
  return shares_bands(plan) ? int64_t{2} * plan.thread_blocks * plan.band_blocks * kBlockChannels * tile_tokens : 0;
}

}  // namespace usmlite::cuda
