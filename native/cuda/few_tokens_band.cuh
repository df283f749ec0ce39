// How sums of a band come together in a product with few tokens (few_tokens_plan.hpp): of the teams of a thread block through
// shared memory, of the thread blocks that share the band through global memory. Both are added in the order of the inputs.
#pragma once

#include "cuda/few_tokens_product.cuh"
#include "cuda/matmul_epilogue.cuh"

namespace usmlite::cuda {

template <Codes C, Arithmetic A, bool kSparse, int kTokens> struct FewTokensBand : FewTokensProduct<C, A, kSparse, kTokens> {
  using Product = FewTokensProduct<C, A, kSparse, kTokens>;
  using typename Product::Place, typename Product::Sum, typename Product::Sums;
  using Product::kColumns, Product::kTiles, Product::kWhole;

  /// The thread block that has unit `unit` of the sequence (band, chunk), and the first unit of a thread block.
  static __device__ __forceinline__ int owner(const FewTokensPlan& plan, int64_t unit) {
    return static_cast<int>(((unit + 1) * plan.thread_blocks - 1) / (static_cast<int64_t>(plan.bands) * plan.chunks));
  }
  static __device__ __forceinline__ int first_unit(const FewTokensPlan& plan, int thread_block) {
    return static_cast<int>(static_cast<int64_t>(plan.bands) * plan.chunks * thread_block / plan.thread_blocks);
  }

  /// Sums of two adjacent channels.
  struct alignas(8) TwoSums {
    Sum first, second;
  };

  /// Adds the sums of all teams, in order, and of all thread blocks that have a part in the band (`whole`: it is this one
  /// alone), in order; finishes and stores them. Goes through the ring, which is free again in the end.
  static __device__ __forceinline__ void finish_band(const MatmulArguments& m, const FewTokensPlan& plan, const Place& p, int band,
                                                     int first_token, bool whole, const Sums& sums) {
    // Rows of a token's channels, 16 bytes longer than these so that a warp's writes go to different banks.
    const int channels = kBlockChannels << p.band_shift, row = channels + 4;
    Sum* const exchange = reinterpret_cast<Sum*>(shared_memory() + kRingOffset);
    int* const flag = reinterpret_cast<int*>(shared_memory());
    ptx::block_sync();
    Sum* own = exchange + (p.team * kTokens + p.lane % 4 * 2) * row + p.block_of_band * kBlockChannels +
               p.first_tile * kTileChannels + p.lane / 4;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int column = 0; column < kColumns; ++column) {
#pragma unroll
        for (int i = 0; i < 4; ++i) own[(column * 8 + i % 2) * row + tile * kTileChannels + 8 * (i / 2)] = sums[tile][column][i];
      }
    }
    ptx::block_sync();

    // From here on a thread has two channels and every few tokens.
    const int thread = static_cast<int>(threadIdx.x), channel = thread % (channels / 2) * 2;
    const int first_row = thread / (channels / 2), rows = 2 * plan.teams, tokens = min(kTokens, m.tokens - first_token);
    const auto of_teams = [&](int token, int at) {
      TwoSums sum = {};
      for (int team = 0; team < plan.teams; ++team) {
        const TwoSums part = *reinterpret_cast<const TwoSums*>(exchange + (team * kTokens + token) * row + at);
        sum.first += part.first, sum.second += part.second;
      }
      return sum;
    };
    const int band_begin = band * plan.chunks;
    const int first_block = owner(plan, band_begin), last_block = owner(plan, band_begin + plan.chunks - 1);
    // A thread block has a part in at most two bands that it shares: in one it begins, in the other, if any, it ends.
    const int begins_before = first_unit(plan, first_block) < band_begin;
    const auto partial_sums = [&](int block) {
      const int64_t slot = (static_cast<int64_t>(blockIdx.y) * plan.thread_blocks + block) * 2 + (block == first_block && begins_before);
      return reinterpret_cast<Sum*>(m.partial_sums) + slot * kTokens * channels;
    };
    bool store = whole;
    if (!whole) {
      Sum* to = partial_sums(static_cast<int>(blockIdx.x)) + channel;
      for (int token = first_row; token < tokens; token += rows) {
        *reinterpret_cast<TwoSums*>(to + token * channels) = of_teams(token, channel);
      }
      ptx::global_fence();
      ptx::block_sync();
      int* counter = m.counters + blockIdx.y * plan.bands + band;
      if (thread == 0) {
        *flag = ptx::atomic_add(counter, 1) == last_block - first_block;
        if (*flag) *counter = 0;
      }
      ptx::block_sync();
      store = *flag;  // the last to come
      ptx::global_fence();
    }
    const auto of_blocks = [&](int token, int at) {
      TwoSums sum = {};
#pragma unroll 4
      for (int block = first_block; block <= last_block; ++block) {
        const TwoSums part = *reinterpret_cast<const TwoSums*>(partial_sums(block) + token * channels + at);
        sum.first += part.first, sum.second += part.second;
      }
      return sum;
    };
    const bool gated = m.activation == Activation::kGlu, aligned = pairs_are_aligned(m);
    const int channel_of_weight = band * channels + channel;
    if (store && channel_of_weight < m.weight.channels && !(gated && channel % kTileChannels >= 8)) {
      const auto at = [&](int token, int of) { return whole ? of_teams(token, of) : of_blocks(token, of); };
      // Two outputs: of two channels, or of two values and their gates.
      const int beside = channel_of_weight + (gated ? 8 : 1);
      const ChannelPair pair_of_all = load_channel_pair(m, channel_of_weight, beside);
      const ChannelPair second_of_all = gated ? load_channel_pair(m, channel_of_weight + 1) : pair_of_all;
      const int output = gated ? channel_of_weight / kTileChannels * 8 + channel % 8 : channel_of_weight;
      for (int token = first_row; token < tokens; token += rows) {
        const float row_scale = m.row_scales ? m.row_scales[first_token + token] : 1.0f;
        const TwoSums sum = at(token, channel);
        ChannelPair pair = pair_of_all, second = second_of_all;
        if constexpr (kWhole) {
          pair = with_row_offset(m, pair, first_token + token, channel_of_weight, beside);
          if (gated) second = with_row_offset(m, second, first_token + token, channel_of_weight + 1, channel_of_weight + 9);
        }
        float2 y;
        if (gated) {
          const TwoSums gate = at(token, channel + 8);
          y.x = finish_sums(m, pair, row_scale, static_cast<float>(sum.first), static_cast<float>(gate.first)).x;
          y.y = finish_sums(m, second, row_scale, static_cast<float>(sum.second), static_cast<float>(gate.second)).x;
        } else {
          y = finish_sums(m, pair, row_scale, static_cast<float>(sum.first), static_cast<float>(sum.second));
        }
        store_output_pair<Output<A>>(m, first_token + token, output, y, aligned);
      }
    }
    ptx::block_sync();
  }
};

}  // namespace usmlite::cuda
