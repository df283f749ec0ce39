// The product of a weight in fragment order with few tokens, for any GPU from sm_80 on (see few_tokens_plan.hpp).
//
// Codes, metadata, scales and activations of a team's chunks come through a ring in shared memory (few_tokens_ring.cuh),
// several chunks ahead. A warp holds the sums of 32 channels, two tiles, for all tokens; codes become fragments in registers
// (dequantize.cuh). Scales of groups multiply float32 sums of their group, so that weights enter the product exactly.
#pragma once

#include <utility>

#include "cuda/few_tokens_ring.cuh"
#include "cuda/matmul_epilogue.cuh"

namespace usmlite::cuda {

template <Codes C, Arithmetic A, bool kSparse, int kTokens> struct FewTokens : FewTokensRing<C, A, kSparse, kTokens> {
  using Ring = FewTokensRing<C, A, kSparse, kTokens>;
  using typename Ring::Place, typename Ring::Source;
  using Ring::kSlices, Ring::kInputs, Ring::kTileBytes, Ring::kCodeBytes, Ring::kMetadataBytes, Ring::kRowBytes, Ring::kRowUnits,
      Ring::kTiles;
  using Ring::fetch_activations, Ring::fetch_weight, Ring::place, Ring::source, Ring::swizzled_unit, Ring::wait_for_chunk;

  using T = Element<A>;
  static constexpr bool kWhole = A == Arithmetic::kInt8;
  using Sum = std::conditional_t<kWhole, int32_t, float>;
  static constexpr int kSteps = kStepsPerTile<A>;
  static constexpr int kColumns = kTokens / 8;         // products side by side
  static constexpr int kGroupSteps = kSparse ? 1 : 2;  // a group of inputs may end after every so many steps
  // Activations are loaded as four matrices of 8 tokens by 16 bytes: of one column for a sparse step or two dense ones, or,
  // where that takes too many registers, of two columns for one dense step.
  static constexpr bool kLoadsPairs = !kSparse && kColumns == 4 && kCodeWords<C> >= 8;
  static constexpr bool kReadsAhead = kColumns < 4 || kSparse == (kCodeWords<C> >= 8);  // scales of groups, where registers are left

  using Sums = Sum[kTiles][kColumns][4];

  /// Dense: with half `kPart` of b.
  template <int kStep, int kPart>
  static __device__ __forceinline__ void multiply(Sum (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4], const uint2& metadata) {
    if constexpr (kSparse) {
      if constexpr (kWhole) ptx::mma_sparse_int8(d, a, b, kStep ? metadata.y : metadata.x);
      else if constexpr (kIs16Bit<A>) ptx::mma_sparse<T, kStep % 2>(d, a, b, kStep / 2 ? metadata.y : metadata.x);
      else ptx::mma_sparse<T, 0>(d, a, b, kStep ? metadata.y : metadata.x);
    } else {
      const uint32_t half[2] = {b[2 * (kPart % 2)], b[2 * (kPart % 2) + 1]};
      if constexpr (kWhole) ptx::mma_int8(d, a, half);
      else ptx::mma<T>(d, a, half);
    }
  }

  /// Planes are read when a step first needs them: all at once when there is one, which all steps share.
  template <int kStep>
  static __device__ __forceinline__ void read_step(uint32_t (&words)[kCodeWords<C>], const unsigned char* tile, int lane) {
    if constexpr (kCodeWords<C> >= 8) {
      constexpr int kPlanes = kCodeWords<C> / 4, kStepsPerPlane = kSteps / kPlanes;
      if constexpr (kStep % kStepsPerPlane == 0) {
        constexpr int kPlane = kStep / kStepsPerPlane;
        const uint4 v = reinterpret_cast<const uint4*>(tile)[kPlane * 32 + lane];
        words[4 * kPlane] = v.x, words[4 * kPlane + 1] = v.y, words[4 * kPlane + 2] = v.z, words[4 * kPlane + 3] = v.w;
      }
    } else if constexpr (kStep == 0) {
      read_codes<C>(words, tile, lane, [](const auto* address) { return *address; });
    }
  }

  using GroupScales = float[kTiles][2];

  static __device__ __forceinline__ void read_group_scales(GroupScales& scale, const unsigned char* scales, int lane) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint16_t* channel = reinterpret_cast<const uint16_t*>(scales) + tile * kTileChannels + lane / 4;
      scale[tile][0] = ptx::to_float<T>(channel[0]), scale[tile][1] = ptx::to_float<T>(channel[8]);
    }
  }

  /// total += sums * scale, sums = 0.
  static __device__ __forceinline__ void add_group(Sums& total, Sums& sums, const GroupScales& scale) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int column = 0; column < kColumns; ++column) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          total[tile][column][i] += sums[tile][column][i] * scale[tile][i / 2];
          sums[tile][column][i] = 0;
        }
      }
    }
  }

  /// Adds the products of a chunk. Bit `kSteps slice + step` of `group_ends`: a group ends with this step.
  static __device__ __forceinline__ void multiply_chunk(const Place& p, const unsigned char* stage, uint32_t group_ends,
                                                        int group_bytes, Sums& total, Sums& sums) {
    const unsigned char* scales = stage + p.scale_offset + (p.block_of_band * kBlockChannels + p.first_tile * kTileChannels) * 2;
    // ldmatrix: lane 8 i + r gives row r of matrix i, the i-th of four units of a row
    const int row = p.lane % 8 + (kLoadsPairs ? p.lane / 16 * 8 : 0), unit = kLoadsPairs ? p.lane / 8 % 2 : p.lane / 8;
    const unsigned char* x_row = stage + p.x_offset + row * kRowBytes;
#pragma unroll (kTokens <= 16 ? kSlices : 1)
    for (int slice = 0; slice < kSlices; ++slice) {
      const unsigned char* tiles = stage + p.block_of_band * kCodeBytes + (4 * slice + p.first_tile) * kTileBytes;
      uint2 metadata[kTiles] = {};
      if constexpr (kSparse) {
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          metadata[tile] = reinterpret_cast<const uint2*>(stage + p.metadata_offset + p.block_of_band * kMetadataBytes +
                                                          (p.first_tile + tile) * kMetadataBytesPerTile)[p.lane];
        }
      }
      uint32_t words[kTiles][kCodeWords<C>];
      uint32_t b[kLoadsPairs ? kColumns / 2 : kColumns][4];
      const uint32_t ends = group_ends >> (slice * kSteps);  // of this slice in the low kSteps bits
      GroupScales scale;
      if constexpr (kIs16Bit<A>) {
        if (kReadsAhead && ends & ((1u << kSteps) - 1)) read_group_scales(scale, scales, p.lane);
      }
      const auto step = [&]<int kStep>() {  // GCC 12 finds names of a base there only with its name
        constexpr int kStepUnits = kSparse ? 4 : 2, kLoadColumns = kLoadsPairs ? 2 : 1;
        if constexpr (kSparse || kLoadsPairs || kStep % 2 == 0) {
          constexpr int kUnitsPerSlice = Ring::kRowUnits / Ring::kSlices;
          const int first = slice * kUnitsPerSlice + kStep * kStepUnits;
          const unsigned char* address = x_row + Ring::swizzled_unit(row, first + unit) * 16;
#pragma unroll
          for (int load = 0; load < kColumns / kLoadColumns; ++load) {
            ptx::load_matrix_x4(b[load], address + load * kLoadColumns * 8 * Ring::kRowBytes);
          }
        }
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          read_step<kStep>(words[tile], tiles + tile * kTileBytes, p.lane);
          uint32_t a[4];
          Dequantizer<C, A>::template fragment<kStep>(words[tile], a);
#pragma unroll
          for (int column = 0; column < kColumns; column += 2) {
            multiply<kStep, kLoadsPairs ? 0 : kStep>(sums[tile][column], a, b[kLoadsPairs ? column / 2 : column], metadata[tile]);
            if constexpr (kColumns > 1) {
              multiply<kStep, kLoadsPairs ? 1 : kStep>(sums[tile][column + 1], a, b[kLoadsPairs ? column / 2 : column + 1], metadata[tile]);
            }
          }
        }
        if constexpr (kIs16Bit<A> && (kStep + 1) % kGroupSteps == 0) {
          if (ends >> kStep & 1) {
            if (!kReadsAhead) read_group_scales(scale, scales, p.lane);
            add_group(total, sums, scale);
            scales += group_bytes;
            if (kReadsAhead && ends >> (kStep + 1) & ((1u << (kSteps - 1 - kStep)) - 1)) read_group_scales(scale, scales, p.lane);
          }
        }
      };
      [&]<int... kStep>(std::integer_sequence<int, kStep...>) { (step.template operator()<kStep>(), ...); }(
          std::make_integer_sequence<int, kSteps>());
    }
  }

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
      const ChannelPair pair = load_channel_pair(m, channel_of_weight, channel_of_weight + (gated ? 8 : 1));
      const ChannelPair second = gated ? load_channel_pair(m, channel_of_weight + 1) : pair;
      const int output = gated ? channel_of_weight / kTileChannels * 8 + channel % 8 : channel_of_weight;
      for (int token = first_row; token < tokens; token += rows) {
        const float row_scale = m.row_scales ? m.row_scales[first_token + token] : 1.0f;
        const TwoSums sum = at(token, channel);
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

  static __device__ __forceinline__ void run(const MatmulArguments& m, const FewTokensPlan& plan, int stages) {
    const int group_size = kIs16Bit<A> ? m.weight.group_size : 0;
    uint32_t group_ends = 0;
    if (group_size) {
      constexpr int kStepInputs = kInputs / (kSlices * kSteps);
      for (int step = 0; step < kSlices * kSteps; ++step) {
        if ((step + 1) * kStepInputs % min(group_size, kInputs) == 0) group_ends |= 1u << step;
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
          multiply_chunk(p, p.ring + stage * p.stage_bytes, group_ends, group_bytes, total, sums);
        }
        stage = stage + 1 == stages ? 0 : stage + 1;
        fetched_stage = fetched_stage + 1 == stages ? 0 : fetched_stage + 1;
      }
      ptx::copy_async_wait<0>();
      if (group_size) {
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
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 890
  if constexpr (A != Arithmetic::kFloat8) FewTokens<C, A, kSparse, kTokens>::run(m, plan, stages);
#else
  FewTokens<C, A, kSparse, kTokens>::run(m, plan, stages);
#endif
}

}  // namespace usmlite::cuda
