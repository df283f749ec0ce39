// The dense product y = x Wᵀ of two row-major matrices on Hopper: both operands come by tensor copies and are multiplied
// from shared memory. Channels are the rows of wgmma, as in matmul_many_tokens_sm90.cuh, whose epilogue it shares.
#pragma once

#include "cuda/launch.hpp"
#include "cuda/runtime.hpp"
#include "cuda/tensor_map.hpp"
#include "cuda/warp_specialised_sm90.cuh"

namespace usmlite::cuda {

struct DenseGemmKernelArguments {
  MatmulArguments matmul;  // of its weight, only the shape and arithmetic
  TileOrder order;
  int boxes;  // of 64 inputs
};

/// One instance of the kernel. Tile: 64 Consumers channels by N tokens; `Residency` blocks share a multiprocessor.
template <Arithmetic A_, class Tile> struct DenseGemm {
  static constexpr Arithmetic A = A_;
  static constexpr int Consumers = Tile::Consumers, N = Tile::N, Residency = Tile::Residency;
  static constexpr int ClusterChannels = Tile::ClusterChannels, ClusterTokens = Tile::ClusterTokens;
  static constexpr int kCluster = ClusterChannels * ClusterTokens;
  static constexpr int kBoxInputs = 64, kSteps = 4;
  static constexpr int kActivationBytes = N * kBoxBytes, kBlockBytes = kBlockChannels * kBoxBytes;
  static constexpr int kStageBytes = kActivationBytes + Consumers * kBlockBytes;
  static constexpr int kStagingBytes = Staging<N>::kBytes;
  static constexpr int kStages = [] {
    const int fit = ((Residency == 1 ? 226 : 112) * 1024 - Consumers * kStagingBytes - 512) / kStageBytes;
    return fit > 12 ? 12 : fit;
  }();
  static_assert(kStages >= 3);
  static constexpr int kStagingOffset = kStages * kStageBytes;
  static constexpr int kBarrierOffset = kStagingOffset + Consumers * kStagingBytes;
  static constexpr int kSharedBytes = kBarrierOffset + 8 * 2 * kStages;
  static constexpr int kThreads = 128 * (Consumers + 1);
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = [] {
    const int all = 65536 / (kThreads * Residency) / 8 * 8 * (Consumers + 1);
    const int each = (all - kProducerRegisters) / Consumers / 8 * 8;
    return each > 240 ? 240 : each;
  }();
};

template <class K>
__global__ void __launch_bounds__(K::kThreads, K::Residency)
    dense_gemm_kernel(const __grid_constant__ TensorMap x_map, const __grid_constant__ TensorMap w_map,
                      const __grid_constant__ OutputMap y_map, const __grid_constant__ DenseGemmKernelArguments arguments) {
#if USMLITE_SM90A
  using T = Operand<K::A>;
  unsigned char* const shared = shared_memory();
  Ring<K::kStages> ring(reinterpret_cast<uint64_t*>(shared + K::kBarrierOffset));
  const int warp = ptx::warp_id(), lane = ptx::lane_id(), warpgroup = warp / 4;
  const ClusterPlace<K::ClusterChannels, K::ClusterTokens> place;
  constexpr int kCluster = K::kCluster;
  if (threadIdx.x == 0) {
    ring.init(4 * K::Consumers * kCluster);
    ptx::barrier_init_fence();
  }
  if constexpr (kCluster > 1) ptx::cluster_sync(); else ptx::block_sync();
  ptx::next_kernel_start();

  const TileOrder& order = arguments.order;
  const int first = static_cast<int>(blockIdx.x) / kCluster, stride = static_cast<int>(gridDim.x) / kCluster;
  if (warpgroup == K::Consumers) {
    ptx::registers_release<K::kProducerRegisters>();
    if (warp == 4 * K::Consumers && lane == 0) {
      ptx::prefetch_tensor_map(&x_map);
      ptx::prefetch_tensor_map(&w_map);
      ptx::previous_kernel_wait();
      for (int index = first; index < order.count(); index += stride) {
        int token_tile, channel_tile;
        order.tile(index, token_tile, channel_tile);
        const int first_channel = (channel_tile * K::ClusterChannels + place.channel) * K::Consumers * kBlockChannels;
        const int first_token = (token_tile * K::ClusterTokens + place.token) * K::N;
#pragma unroll 1
        for (int box = 0; box < arguments.boxes; ++box) {
          ring.wait_empty();
          unsigned char* const stage = shared + ring.stage * K::kStageBytes;
          uint64_t* const barrier = ring.full + ring.stage;
          ptx::barrier_arrive_expect(barrier, K::kStageBytes);
          const int column = box * K::kBoxInputs;
          copy_shared_box<K::ClusterChannels, K::N>(stage, x_map, column, first_token, barrier, place.channel, place.same_tokens());
#pragma unroll
          for (int consumer = 0; consumer < K::Consumers; ++consumer) {
            copy_shared_box<K::ClusterTokens, kBlockChannels>(stage + K::kActivationBytes + consumer * K::kBlockBytes, w_map, column,
                                                              first_channel + consumer * kBlockChannels, barrier, place.token,
                                                              place.same_channels());
          }
          ring.advance();
        }
      }
    }
    ptx::warp_sync();
  } else {
    ptx::registers_acquire<K::kConsumerRegisters>();
    unsigned char* const staging = shared + K::kStagingOffset + warpgroup * K::kStagingBytes;
    const uint64_t x = ptx::swizzled_descriptor(shared);
    const uint64_t w = ptx::swizzled_descriptor(shared + K::kActivationBytes + warpgroup * K::kBlockBytes);
    ptx::previous_kernel_wait();
    for (int index = first; index < order.count(); index += stride) {
      int token_tile, channel_tile;
      order.tile(index, token_tile, channel_tile);
      float d[K::N / 2];
#pragma unroll
      for (int i = 0; i < K::N / 2; ++i) d[i] = 0;
      int previous = -1;
#pragma unroll 1
      for (int box = 0; box < arguments.boxes; ++box) {
        ring.wait_full();
        ptx::wgmma_fence();
        const uint32_t offset = static_cast<uint32_t>(ring.stage * (K::kStageBytes / 16));
#pragma unroll
        for (int step = 0; step < K::kSteps; ++step) {
          ptx::Wgmma<T, K::N>::dense(d, w + offset + step * 2, x + offset + step * 2, true);
        }
        ptx::wgmma_commit();
        ptx::wgmma_wait<1>();
        if (previous >= 0) place.release_both(ring.empty + previous, lane);
        previous = ring.stage;
        ring.advance();
      }
      ptx::wgmma_wait<0>();
      place.release_both(ring.empty + previous, lane);
#pragma unroll
      for (int i = 0; i < K::N / 2; ++i) ptx::wgmma_touch(d[i]);
      const int channel_begin = ((channel_tile * K::ClusterChannels + place.channel) * K::Consumers + warpgroup) * kBlockChannels;
      if (channel_begin < arguments.matmul.weight.channels) {
        store_sums<Output<K::A>, K::N>(arguments.matmul, y_map, d, channel_begin, (token_tile * K::ClusterTokens + place.token) * K::N, staging, 1 + warpgroup);
      }
    }
  }
  if (threadIdx.x % 128 == 0 && warpgroup < K::Consumers) ptx::bulk_store_wait();
  if constexpr (kCluster > 1) ptx::cluster_sync();  // no block of the cluster may end while others write into it
#endif
}

/// `w`: (channels, w_stride), rows aligned to 16 bytes.
template <class K> void launch_dense_gemm(const MatmulArguments& m, const void* w, int64_t w_stride, StreamHandle stream) {
  const int channels = m.weight.channels, inputs = m.weight.inputs;
  const int blocks = (channels + kBlockChannels - 1) / kBlockChannels;
  const DenseGemmKernelArguments arguments{m, tile_order<K>(m.tokens, blocks),
                                           (inputs + K::kBoxInputs - 1) / K::kBoxInputs};
  const TensorMap x_map = make_tensor_map(m.x, 2, m.tokens, inputs, m.x_stride, K::N / K::ClusterChannels, K::kBoxInputs);
  const TensorMap w_map = make_tensor_map(w, 2, channels, inputs, w_stride, kBlockChannels / K::ClusterTokens, K::kBoxInputs);
  launch(dense_gemm_kernel<K>, persistent_shape<K>(arguments.order), stream, x_map, w_map, output_map<K::N>(m), arguments);
}

}  // namespace usmlite::cuda
