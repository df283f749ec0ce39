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

  /// The first unit of the sequence (band, chunk) that a thread block has, and the thread block that has a unit. All in 32 bits: a
  /// division of 64 takes a GPU a hundred instructions, and the first copies wait for where they begin.
  static __device__ __forceinline__ int first_unit(const FewTokensPlan& plan, int thread_block) {
    return thread_block * plan.units + min(thread_block, plan.longer);
  }
  static __device__ __forceinline__ int owner(const FewTokensPlan& plan, int unit) {
    const unsigned units = plan.units, of_longer = plan.longer * (units + 1), at = unit;
    return static_cast<int>(at < of_longer ? at / (units + 1) : plan.longer + (at - of_longer) / units);
  }

  /// The chunks of a band that a thread block has: none if `begin` >= `end`.
  struct Chunks {
    int begin, end;
  };
  static __device__ __forceinline__ Chunks chunks_of_band(const FewTokensPlan& plan, int thread_block, int band) {
    const int block = ptx::from_here(thread_block), band_begin = band * plan.chunks;
    return {max(0, first_unit(plan, block) - band_begin), min(plan.chunks, first_unit(plan, block + 1) - band_begin)};
  }

  /// Sums of two adjacent channels.
  struct alignas(8) TwoSums {
    Sum first, second;
  };

  /// load(begin) + load(begin + 1) + .. up to `end`, in order. Four are read at once, whether there are so many or not: what remains
  /// of them, read one after the other, would take as long and twice the code.
  template <typename Load> static __device__ __forceinline__ TwoSums add_in_order(int begin, int end, const Load& load) {
    TwoSums sum = {};
#pragma unroll 1
    for (int i = begin; i < end; i += 4) {
      TwoSums parts[4];
#pragma unroll
      for (int part = 0; part < 4; ++part) parts[part] = load(min(i + part, end - 1));
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        const bool counts = i + part < end;
        sum.first += counts ? parts[part].first : Sum{}, sum.second += counts ? parts[part].second : Sum{};
      }
    }
    return sum;
  }

  /// Adds the sums of all teams, in order, and of all thread blocks that have a part in the band (`whole`: it is this one
  /// alone), in order; finishes and stores them. Goes through the ring, which is free again in the end. Where this thread works is
  /// computed `from_here`: kept through the products, it would hold registers that these need.
  static __device__ __forceinline__ void finish_band(const MatmulArguments& m, const FewTokensPlan& plan, const FewTokensLayout& layout,
                                                     int band, const Sums& sums) {
    const int thread = ptx::from_here(static_cast<int>(threadIdx.x)), token_tile = ptx::from_here(static_cast<int>(blockIdx.y));
    const int first_token = token_tile * kTokens;
    const auto [begin, end] = chunks_of_band(plan, static_cast<int>(blockIdx.x), band);
    const bool whole = begin == 0 && end == plan.chunks;
    const Place p = Product::place(layout, thread / 32, thread % 32);
    // Rows of a token's channels, 16 bytes longer than these so that a warp's writes go to different banks.
    const int band_shift = ptx::from_here(layout.band_shift), teams = ptx::from_here(plan.teams);
    const int channels = kBlockChannels << band_shift, row = channels + 4;
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

    // From here on a thread has two channels and every few tokens.
    const int channel = (thread & (channels / 2 - 1)) * 2, channel_of_weight = band * channels + channel;
    const int first_row = thread / (kBlockChannels / 2) >> band_shift, rows = 2 * teams;
    const int tokens = min(kTokens, m.tokens - first_token);
    const bool gated = m.activation == Activation::kGlu, has_output = channel_of_weight < m.weight.channels && !(gated && channel & 8);
    const int gate_distance = gated ? 8 : 0;
    ChannelPair pair_of_all = {}, gates_of_all = {};
    if (has_output) {
      pair_of_all = load_channel_pair(m, channel_of_weight, channel_of_weight + 1);
      if (gated) gates_of_all = load_channel_pair(m, channel_of_weight + 8, channel_of_weight + 9);
    }
    ptx::block_sync();

    const auto of_teams = [&](int token, int at) {
      return add_in_order(0, teams, [&](int team) {
        return *reinterpret_cast<const TwoSums*>(exchange + (team * kTokens + token) * row + at);
      });
    };
    bool store = has_output;
    int first_block = 0, last_block = 0, begins_before = 0;
    Sum* const partial_sums = static_cast<Sum*>(static_cast<void*>(m.partial_sums)) +
                              static_cast<int64_t>(token_tile) * plan.thread_blocks * 2 * kTokens * channels;
    // A thread block has a part in at most two bands that it shares: in one it begins, in the other, if any, it ends.
    const auto sums_of = [&](int block) {
      return partial_sums + (block * 2 + (block == first_block ? begins_before : 0)) * kTokens * channels;
    };
    if (!whole) {
      const int band_begin = band * plan.chunks;
      first_block = owner(plan, band_begin), last_block = owner(plan, band_begin + plan.chunks - 1);
      begins_before = first_unit(plan, first_block) < band_begin;
      Sum* const to = sums_of(static_cast<int>(blockIdx.x)) + channel;
#pragma unroll 1
      for (int token = first_row; token < tokens; token += rows) {
        *reinterpret_cast<TwoSums*>(to + token * channels) = of_teams(token, channel);
      }
      ptx::block_sync();
      int* counter = m.counters + token_tile * plan.bands + band;
      if (thread == 0) {
        *flag = ptx::atomic_add(counter, 1) == last_block - first_block;
        if (*flag) *counter = 0;
      }
      ptx::block_sync();
      store = store && *flag;  // the last to come
    }
    const auto of_blocks = [&](int token, int at) {
      return add_in_order(first_block, last_block + 1, [&](int block) {
        return *reinterpret_cast<const TwoSums*>(sums_of(block) + token * channels + at);
      });
    };
    if (store) {
      const bool aligned = pairs_are_aligned(m);
      const int output = gated ? channel_of_weight / kTileChannels * 8 + channel % 8 : channel_of_weight;
#pragma unroll 1
      for (int token = first_row; token < tokens; token += rows) {
        const float row_scale = m.row_scales ? m.row_scales[first_token + token] : 1.0f;
        float y[2] = {}, gates[2] = {};  // the same but for kGlu, whose gates come first
#pragma unroll 1
        for (int distance = gate_distance;; distance = 0) {
          const TwoSums sum = whole ? of_teams(token, channel + distance) : of_blocks(token, channel + distance);
          ChannelPair pair = distance ? gates_of_all : pair_of_all;
          const int first = channel_of_weight + distance;
          if constexpr (kWhole) pair = with_row_offset(m, pair, first_token + token, first, first + 1);
          const float2 scaled = scale_sums(pair, row_scale, static_cast<float>(sum.first), static_cast<float>(sum.second));
          y[0] = scaled.x, y[1] = scaled.y;
          if (distance == gate_distance) gates[0] = y[0], gates[1] = y[1];
          if (distance == 0) break;
        }
        activate(m.activation, y, gates);
        store_output_pair<Output<A>>(m, first_token + token, output, {y[0] * m.scale, y[1] * m.scale}, aligned);
      }
    }
    ptx::block_sync();
  }
};

}  // namespace usmlite::cuda
