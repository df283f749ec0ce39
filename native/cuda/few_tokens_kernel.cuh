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
  using Band::fetch_activations, Band::fetch_weight, Band::finish_band, Band::first_unit, Band::kColumns, Band::kInputs, Band::kSlices,
      Band::kSteps, Band::kTiles, Band::kZeroPoints, Band::multiply_chunk, Band::place, Band::read_group, Band::source, Band::wait_for_chunk;
  using typename Band::Groups;

  static __device__ __forceinline__ void run(const MatmulArguments& m, const FewTokensPlan& plan, int stages) {
    const int group_size = kIs16Bit<A> ? m.weight.group_size : 0;
    uint32_t group_ends = 0;
    if (group_size) {
      constexpr int kStepInputs = kInputs / (kSlices * kSteps);
      for (int step = 0; step < kSlices * kSteps; ++step) {
        if ((step + (kZeroPoints ? 0 : 1)) * kStepInputs % min(group_size, kInputs) == 0) group_ends |= 1u << step;
      }
    }
    const Place p = place(m.weight, plan, stages);
    const int group_bytes = plan.band_blocks * kBlockChannels * 2;
    const int first_token = static_cast<int>(blockIdx.y) * kTokens;

#if __CUDA_ARCH__ >= 900
    ptx::next_kernel_start();
#endif
    bool previous_kernel_ended = false;  // before, only the weight may be read
    int unit = first_unit(plan, static_cast<int>(blockIdx.x));
    const int last_unit = first_unit(plan, static_cast<int>(blockIdx.x) + 1);
    while (unit < last_unit) {
      const int band = unit / plan.chunks, begin = unit % plan.chunks;
      const int end = min(plan.chunks, begin + last_unit - unit);
      const Source from = source(m, plan, p, band, first_token);
      int next = begin + p.team;  // chunk to fetch
#pragma unroll 1
      for (int stage = 0; stage < stages - 1; ++stage, next += plan.teams) {
        if (next < end) fetch_weight(p, from, next, p.ring + stage * p.stage_bytes);
        if (!previous_kernel_ended) {
#if __CUDA_ARCH__ >= 900
          ptx::previous_kernel_wait();
#endif
          previous_kernel_ended = true;
        }
        if (next < end) fetch_activations(m, p, from, next, first_token, p.ring + stage * p.stage_bytes);
        ptx::copy_async_commit();
      }
      Sums total = {}, sums = {};
      Groups groups = {};
      if (kZeroPoints && !group_size) {  // one for all inputs
        const int block = min(band * plan.band_blocks + p.block_of_band, m.weight.blocks - 1);
        read_group(groups, m.weight.group_scales + block * (Band::kGroupRows * kBlockChannels) + p.first_tile * kTileChannels, kBlockChannels, p.lane);
      }
      int stage = 0, fetched_stage = stages - 1;
      for (int chunk = begin + p.team; chunk < end; chunk += plan.teams, next += plan.teams) {
        wait_for_chunk(stages);
        ptx::named_barrier_sync(1 + p.team, p.team_threads);  // the chunk has come for all, and the one before is read
        if (next < end) {
          fetch_weight(p, from, next, p.ring + fetched_stage * p.stage_bytes);
          fetch_activations(m, p, from, next, first_token, p.ring + fetched_stage * p.stage_bytes);
        }
        ptx::copy_async_commit();
        if (band * plan.band_blocks + p.block_of_band < m.weight.blocks) {  // the last band may be narrower
          multiply_chunk(p, p.ring + stage * p.stage_bytes, group_ends, group_bytes, groups, total, sums);
        }
        stage = stage + 1 == stages ? 0 : stage + 1;
        fetched_stage = fetched_stage + 1 == stages ? 0 : fetched_stage + 1;
      }
      ptx::copy_async_wait<0>();
      if (!kZeroPoints && group_size) {
#pragma unroll
        for (int quad = 0; quad < kTiles * kColumns; ++quad) {
#pragma unroll
          for (int i = 0; i < 4; ++i) sums[quad / kColumns][quad % kColumns][i] = total[quad / kColumns][quad % kColumns][i];
        }
      }
      finish_band(m, plan, p, band, first_token, begin == 0 && end == plan.chunks, sums);
      unit += end - begin;
    }
  }
};

template <Codes C, Arithmetic A, bool kSparse, int kTokens>
__global__ void __launch_bounds__(few_tokens_threads(A), 1) few_tokens_kernel(const MatmulArguments m, const FewTokensPlan plan,
                                                                              const int stages) {
  FewTokens<C, A, kSparse, kTokens>::run(m, plan, stages);
}

}  // namespace usmlite::cuda
