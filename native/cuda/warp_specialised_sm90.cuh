// What the matrix products for many tokens on Hopper share: stages in shared memory handed between the warp that copies
// and the warpgroups that multiply, the order of output tiles, and the way of accumulators to global memory.
//
// A block has `Consumers` warpgroups and one more, of which one thread is the producer. Each consumer holds the sums of 64
// channels by N tokens. A cluster is a grid of ClusterChannels by ClusterTokens blocks with adjacent tiles: those with the
// same tokens fetch a part of the activations each and the copy engine writes it to all of them, and so with weights.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cuda/launch.hpp"
#include "cuda/matmul_epilogue.cuh"
#include "cuda/runtime.hpp"
#include "cuda/tensor_map.hpp"
#include "cuda/tile_order.hpp"

namespace usmlite::cuda {

inline constexpr int kBoxBytes = 128;  // of a row of activations: what a swizzled tile is wide

/// The tiles of a kernel, whole clusters, for a product of `blocks` blocks of 64 channels.
template <class K> TileOrder tile_order(int tokens, int blocks) {
  constexpr int kTokens = K::N * K::ClusterTokens, kBlocks = K::Consumers * K::ClusterChannels;
  return {(tokens + kTokens - 1) / kTokens, (blocks + kBlocks - 1) / kBlocks, 2048 / kTokens};
}

/// As many clusters as run at a time, or as there are tiles.
template <class K> LaunchShape persistent_shape(const TileOrder& order) {
  constexpr int kCluster = K::kCluster;
  const int tiles = order.token_tiles * order.channel_tiles;
  const int clusters = std::max(1, gpu_properties().multiprocessors * K::Residency / kCluster);
  LaunchShape shape{static_cast<unsigned>(std::min(tiles, clusters) * kCluster), 1, 1, K::kThreads, K::kSharedBytes};
  shape.cluster_x = kCluster;
  shape.overlaps_previous = true;
  return shape;
}

/// Shared memory in which one warpgroup transposes its sums on their way out: the 16-bit outputs of 64 tokens at a time, for
/// more tokens in two buffers in turn, or 32 tokens of 64 floats in rows 4 floats longer, so that neither writing nor reading
/// meets bank conflicts. What a whole tile's outputs would take more is worth a stage or two of operands.
template <int N> struct Staging {
  static constexpr int kTokens = 64, kParts = N / kTokens, kBuffers = kParts > 1 ? 2 : 1;
  static_assert(N % kTokens == 0 && kParts % kBuffers == 0);
  static constexpr int kBufferBytes = kTokens * 128, kRow = kBlockChannels + 4;
  static constexpr int kSumBytes = (32 * kRow * 4 + 1023) / 1024 * 1024;
  static constexpr int kBytes = kBuffers * kBufferBytes > kSumBytes ? kBuffers * kBufferBytes : kSumBytes;
};

/// The outputs as the copy engine stores them: boxes of 64 channels by the tokens of a staging buffer. `plain`: they are outputs
/// without activation and residual in rows that it can store, which end at a multiple of 16 bytes: it stores no less at once.
struct OutputMap {
  TensorMap map;
  bool plain;
};
template <int N> OutputMap output_map(const MatmulArguments& m) {
  OutputMap y{};
  y.plain = m.activation == Activation::kNone && !m.residual && m.weight.channels % 8 == 0 && m.y_stride % 8 == 0 &&
            reinterpret_cast<uintptr_t>(m.y) % 16 == 0;
  if (y.plain) y.map = make_tensor_map(m.y, 2, m.tokens, m.weight.channels, m.y_stride, Staging<N>::kTokens, kBlockChannels);
  return y;
}

#if USMLITE_SM90A

/// Stages used in turn. `full` ends a phase when a stage has been filled, `empty` when it has been read.
template <int Stages> struct Ring {
  uint64_t* full;
  uint64_t* empty;
  int stage = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ Ring(uint64_t* barriers) : full(barriers), empty(barriers + Stages) {}
  static constexpr int kBarriers = 2 * Stages;
  /// By one thread, before the block synchronises.
  __device__ __forceinline__ void init(int readers) {
    for (int i = 0; i < Stages; ++i) {
      ptx::barrier_init(full + i, 1);
      ptx::barrier_init(empty + i, readers);
    }
  }
  __device__ __forceinline__ void wait_full() { ptx::barrier_wait(full + stage, parity); }
  __device__ __forceinline__ void wait_empty() { ptx::barrier_wait(empty + stage, parity ^ 1); }
  __device__ __forceinline__ void advance() {
    if (++stage == Stages) stage = 0, parity ^= 1;
  }
};

/// Where a block is in its cluster, and with whom it shares.
template <int ClusterChannels, int ClusterTokens> struct ClusterPlace {
  static constexpr int kBlocks = ClusterChannels * ClusterTokens;
  int channel = 0, token = 0;

  __device__ __forceinline__ ClusterPlace() {
    if constexpr (kBlocks > 1) {
      const int rank = ptx::cluster_rank();
      channel = rank % ClusterChannels, token = rank / ClusterChannels;
    }
  }
  /// Blocks with the same tokens, which share activations, and with the same channels, which share weights; as bits.
  __device__ __forceinline__ uint16_t same_tokens() const { return static_cast<uint16_t>(((1 << ClusterChannels) - 1) << (token * ClusterChannels)); }
  __device__ __forceinline__ uint16_t same_channels() const {
    uint16_t bits = 0;
#pragma unroll
    for (int i = 0; i < ClusterTokens; ++i) bits |= static_cast<uint16_t>(1 << (i * ClusterChannels));
    return static_cast<uint16_t>(bits << channel);
  }
  /// By a whole warp: gives a stage of activations, or of weights, back to all blocks that write it.
  __device__ __forceinline__ void release_activations(uint64_t* empty, int lane) const {
    if constexpr (ClusterChannels == 1) {
      if (lane == 0) ptx::barrier_arrive(empty);
    } else {
      if (lane < ClusterChannels) ptx::barrier_arrive_cluster(empty, token * ClusterChannels + lane);
    }
  }
  __device__ __forceinline__ void release_weights(uint64_t* empty, int lane) const {
    if constexpr (ClusterTokens == 1) {
      if (lane == 0) ptx::barrier_arrive(empty);
    } else {
      if (lane < ClusterTokens) ptx::barrier_arrive_cluster(empty, lane * ClusterChannels + channel);
    }
  }
  __device__ __forceinline__ void release_both(uint64_t* empty, int lane) const {
    if constexpr (kBlocks == 1) {
      if (lane == 0) ptx::barrier_arrive(empty);
    } else {
      if (lane < kBlocks) ptx::barrier_arrive_cluster(empty, lane);
    }
  }
};

/// By one thread: copies a box of `Rows` rows from `row` on, of which each of `Sharers` blocks fetches a part, this one
/// part `share`.
template <int Sharers, int Rows>
__device__ __forceinline__ void copy_shared_box(unsigned char* stage, const TensorMap& map, int column, int row, uint64_t* barrier, int share,
                                                uint16_t blocks) {
  if constexpr (Sharers == 1) {
    ptx::tensor_copy(stage, &map, column, row, barrier);
  } else {
    constexpr int kRows = Rows / Sharers;
    static_assert(kRows % 8 == 0);  // of a swizzled tile
    ptx::tensor_copy_multicast(stage + share * kRows * kBoxBytes, &map, column, row + share * kRows, barrier, blocks);
  }
}

/// The same with `Bytes` adjacent bytes.
template <int Sharers, int Bytes>
__device__ __forceinline__ void copy_shared_bytes(unsigned char* stage, const uint8_t* from, uint64_t* barrier, int share, uint16_t blocks) {
  if constexpr (Sharers == 1) {
    ptx::bulk_copy(stage, from, Bytes, barrier);
  } else {
    constexpr int kBytes = Bytes / Sharers;
    static_assert(kBytes % 16 == 0);
    ptx::bulk_copy_multicast(stage + share * kBytes, from + share * kBytes, kBytes, barrier, blocks);
  }
}

/// Stores outputs 8 `octet`.. of a token. `width`: of y.
template <typename T>
__device__ __forceinline__ void store_octet(const MatmulArguments& m, int token, int channel, int width, bool aligned, const uint32_t (&pairs)[4]) {
  uint16_t* y = static_cast<uint16_t*>(m.y) + token * m.y_stride + channel;
  if (aligned && channel + 8 <= width) {
    *reinterpret_cast<uint4*>(y) = uint4{pairs[0], pairs[1], pairs[2], pairs[3]};
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (channel + i < width) y[i] = static_cast<uint16_t>(pairs[i / 2] >> (16 * (i % 2)));
    }
  }
}

/// Finishes (matmul_epilogue.cuh) and stores the sums of a warpgroup, 64 channels from `channel_begin` (a multiple of 64)
/// by N tokens. `barrier`: a named barrier of this warpgroup alone. Its first thread has to wait for its bulk stores before
/// it ends. With `kMayBeWide`, y and the residual are float32 where `wide` is, and have no plain map then.
template <typename T, int N, bool kMayBeWide = false, typename Sum>
__device__ __forceinline__ void store_sums(const MatmulArguments& m, const OutputMap& y_map, const Sum (&d)[N / 2], int channel_begin,
                                           int token_begin, unsigned char* staging, int barrier, bool wide = false) {
  using S = Staging<N>;
  constexpr bool kWhole = std::is_same_v<Sum, int32_t>;  // whose activations may have offsets
  const int thread = static_cast<int>(threadIdx.x & 127), warp = thread >> 5, lane = thread & 31, g = lane >> 2, t = lane & 3;
  if (y_map.plain) {
    // Transposed as 16-bit outputs in the rows of a swizzled box, which the copy engine stores while the next tile begins.
    const int channel = channel_begin + 16 * warp + g;
    const ChannelPair pair = load_channel_pair(m, channel);
    float channel_sums[2] = {};
    if (kWhole && m.row_offsets) channel_sums[0] = m.weight.channel_sums[channel], channel_sums[1] = m.weight.channel_sums[channel + 8];
#pragma unroll
    for (int part = 0; part < S::kParts; ++part) {
      unsigned char* const buffer = staging + part % S::kBuffers * S::kBufferBytes;
      if (thread == 0) ptx::bulk_store_wait_read<S::kBuffers - 1>();
      ptx::named_barrier_sync(barrier, 128);
#pragma unroll
      for (int j = 0; j < S::kTokens / 8; j += 2) {
        uint32_t r[4];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int token = token_begin + part * S::kTokens + 8 * (j + i) + 2 * t;
          const float scale_0 = m.row_scales && token < m.tokens ? m.row_scales[token] : 1.0f;
          const float scale_1 = m.row_scales && token + 1 < m.tokens ? m.row_scales[token + 1] : 1.0f;
          const Sum* const sums = d + 4 * (part * (S::kTokens / 8) + j + i);
          float offset_0 = 0.0f, offset_1 = 0.0f;
          if constexpr (kWhole) {
            if (m.row_offsets && token < m.tokens) offset_0 = m.row_offsets[token];
            if (m.row_offsets && token + 1 < m.tokens) offset_1 = m.row_offsets[token + 1];
          }
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            float bias_0 = pair.bias[half], bias_1 = bias_0;
            if constexpr (kWhole) bias_0 = fmaf(offset_0, channel_sums[half], bias_0), bias_1 = fmaf(offset_1, channel_sums[half], bias_1);
            const float y_0 = (static_cast<float>(sums[2 * half]) * (pair.scale[half] * scale_0) + bias_0) * m.scale;
            const float y_1 = (static_cast<float>(sums[2 * half + 1]) * (pair.scale[half] * scale_1) + bias_1) * m.scale;
            r[2 * i + half] = ptx::round2<T>(y_0, y_1);
          }
        }
        const int row = 8 * (j + lane / 16) + lane % 8, unit = 2 * warp + lane / 8 % 2;
        ptx::store_matrix_transposed_x4(buffer + row * 128 + ((unit ^ (row & 7)) * 16), r);
      }
      ptx::async_proxy_fence();
      ptx::named_barrier_sync(barrier, 128);
      if (thread == 0) {
        ptx::tensor_store(&y_map.map, channel_begin, token_begin + part * S::kTokens, buffer);
        ptx::bulk_store_commit();
      }
    }
    return;
  }
  // Transposed as sums; each thread finishes eight outputs of a token at a time.
  const bool glu = m.activation == Activation::kGlu;
  const int width = glu ? m.weight.channels / 2 : m.weight.channels;
  const bool aligned = (m.y_stride & 7) == 0 && (reinterpret_cast<uintptr_t>(m.y) & 15) == 0;
  float* const rows = reinterpret_cast<float*>(staging);
  const int octets = glu ? 4 : 8, octet = thread % octets;
  const int first = glu ? 16 * octet : 8 * octet, second = glu ? first + 8 : first;  // channels, in the block of 64
  const float factor = code_factor(m.weight.codes, m.weight.arithmetic);
#pragma unroll 1
  for (int part = 0; part < N / 32; ++part) {
    ptx::named_barrier_sync(barrier, 128);
#pragma unroll
    for (int p = 0; p < N / 32; ++p) {
      if (p != part) continue;
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        const int row = 8 * (i / 4) + 2 * t + i % 2;
        rows[row * S::kRow + 16 * warp + g + 8 * (i / 2 % 2)] = static_cast<float>(d[16 * p + i]);
      }
    }
    ptx::named_barrier_sync(barrier, 128);
#pragma unroll 1
    for (int row = thread / octets; row < 32; row += 128 / octets) {
      const int token = token_begin + 32 * part + row;
      const int channel = (glu ? channel_begin / 2 : channel_begin) + 8 * octet;
      if (token >= m.tokens || channel >= width) continue;
      const float row_scale = m.row_scales ? m.row_scales[token] : 1.0f;
      const uint16_t* const residual =
          m.residual && !(kMayBeWide && wide) ? static_cast<const uint16_t*>(m.residual) + token * m.y_stride + channel : nullptr;
      float y[8], gates[8];  // the same but for kGlu
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int a = channel_begin + first + i, b = channel_begin + second + i;
        ChannelPair pair{{factor, factor}, {0.0f, 0.0f}};
        if (m.weight.channel_scales) pair.scale[0] *= m.weight.channel_scales[a], pair.scale[1] *= m.weight.channel_scales[b];
        if (m.bias) pair.bias[0] = m.bias[a], pair.bias[1] = m.bias[b];
        if constexpr (kWhole) pair = with_row_offset(m, pair, token, a, b);
        const float2 value_and_gate = scale_sums(pair, row_scale, rows[row * S::kRow + first + i], rows[row * S::kRow + second + i]);
        y[i] = value_and_gate.x, gates[i] = value_and_gate.y;
      }
      activate(m.activation, y, gates);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        y[i] *= m.scale;
        if (residual && channel + i < width) y[i] += ptx::to_float<T>(residual[i]) * m.residual_scale;
      }
      if constexpr (kMayBeWide) {
        if (wide) {
          store_wide_outputs(m, token, channel, y);
          continue;
        }
      }
      store_octet<T>(m, token, channel, width, aligned,
                     {ptx::round2<T>(y[0], y[1]), ptx::round2<T>(y[2], y[3]), ptx::round2<T>(y[4], y[5]), ptx::round2<T>(y[6], y[7])});
    }
  }
}

#endif  // USMLITE_SM90A

}  // namespace usmlite::cuda
