// The product of a weight in fragment order with few tokens, for any GPU from sm_80 on (see few_tokens_plan.hpp).
//
// Codes, metadata, scales and activations of a team's chunks come through a ring in shared memory (few_tokens_ring.cuh),
// several chunks ahead; few_tokens_product.cuh multiplies them, few_tokens_band.cuh adds and stores what a band gives.
//
// Who may touch what, when. A stage of a team's ring is filled by the copies of all threads of the team: each waits for its
// own (`wait_for_chunk`), then all meet at the team's named barrier, and the stage may be read. At the same barrier the stage
// that was read before becomes free for the next copies. When a thread block ends a band it meets at barriers of all its
// threads: one ends all reads of the rings, whose memory then holds the sums of the teams, and the last one frees that for
// the copies of the next band.
#pragma once

#include "cuda/few_tokens_band.cuh"

namespace usmlite::cuda {

template <Codes C, Arithmetic A, bool kSparse, int kTokens> struct FewTokens : FewTokensBand<C, A, kSparse, kTokens> {
  using Band = FewTokensBand<C, A, kSparse, kTokens>;
  using typename Band::Place, typename Band::Source, typename Band::Sums;
  using Band::chunks_of_band, Band::fetch_activations, Band::fetch_weight, Band::finish_band, Band::first_unit, Band::kColumns, Band::kTiles,
      Band::kZeroPoints, Band::multiply_chunk, Band::place, Band::read_group, Band::source, Band::team_threads, Band::wait_for_chunk;
  using typename Band::Groups;

  static __device__ __forceinline__ void run(const MatmulArguments& m, const FewTokensPlan& plan, const FewTokensLayout& layout) {
    const Place p = place(layout, ptx::warp_id(), ptx::lane_id());
    const int first_token = static_cast<int>(blockIdx.y) * kTokens;

#if __CUDA_ARCH__ >= 900
    ptx::next_kernel_start();
#endif
    bool previous_kernel_ended = false;  // before, only the weight may be read
    const unsigned first_band = static_cast<unsigned>(first_unit(plan, static_cast<int>(blockIdx.x))) / static_cast<unsigned>(plan.chunks);
    for (int band = static_cast<int>(first_band);; ++band) {
      const auto [begin, end] = chunks_of_band(plan, static_cast<int>(blockIdx.x), band);
      if (begin >= end) break;
      const Source from = source(m, layout, p, band, first_token);
      int next = begin + p.team;  // chunk to fetch
#pragma unroll 1
      for (int stage = 0; stage < layout.stages - 1; ++stage, next += plan.teams) {
        if (next < end) fetch_weight(layout, p.team_thread, from, next, p.ring + stage * layout.stage_bytes);
        if (!previous_kernel_ended) {
#if __CUDA_ARCH__ >= 900
          ptx::previous_kernel_wait();
#endif
          previous_kernel_ended = true;
        }
        if (next < end) fetch_activations(m, layout, p.team_thread, from, next, first_token, p.ring + stage * layout.stage_bytes);
        ptx::copy_async_commit();
      }
      Sums total = {}, sums = {};
      Groups groups = {};
      if (kZeroPoints && !layout.group_bytes) {  // one for all inputs
        const int block = min(band * plan.band_blocks + p.block_of_band, m.weight.blocks - 1);
        read_group(groups, m.weight.group_scales + block * (Band::kGroupRows * kBlockChannels) + p.first_tile * kTileChannels, kBlockChannels,
                   p.lane);
      }
      int stage = 0;
      for (int chunk = begin + p.team; chunk < end; chunk += plan.teams) {
        wait_for_chunk(layout.stages);
        ptx::named_barrier_sync(1 + p.team, team_threads(layout));  // the chunk has come for all, and the one before is read
        if (const int fetched = chunk + layout.chunks_ahead; fetched < end) {
          // Where copies go follows from the thread anew: kept from chunk to chunk, it would hold registers that 32 tokens need.
          const int thread = ptx::from_here(p.team_thread);
          unsigned char* const to = p.ring + (stage == 0 ? layout.stages - 1 : stage - 1) * layout.stage_bytes;
          fetch_weight(layout, thread, from, fetched, to);
          fetch_activations(m, layout, thread, from, fetched, first_token, to);
        }
        ptx::copy_async_commit();
        if (from.slices) {  // the last band may be narrower
          multiply_chunk(layout, p, p.ring + stage * layout.stage_bytes, groups, total, sums);
        }
        stage = stage + 1 == layout.stages ? 0 : stage + 1;
      }
      ptx::copy_async_wait<0>();
      if (!kZeroPoints && layout.group_bytes) {
#pragma unroll
        for (int quad = 0; quad < kTiles * kColumns; ++quad) {
#pragma unroll
          for (int i = 0; i < 4; ++i) sums[quad / kColumns][quad % kColumns][i] = total[quad / kColumns][quad % kColumns][i];
        }
      }
      finish_band(m, plan, layout, band, sums);
    }
  }
};

template <Codes C, Arithmetic A, bool kSparse, int kTokens>
__global__ void __launch_bounds__(few_tokens_threads(A), 1) few_tokens_kernel(const MatmulArguments m, const FewTokensPlan plan,
                                                                              const FewTokensLayout layout) {
  FewTokens<C, A, kSparse, kTokens>::run(m, plan, layout);
}

}  // namespace usmlite::cuda
