// The dense product y = x Wᵀ of two matrices on Hopper: both operands come by tensor copies and are multiplied from shared memory, in the
// order that they have: K-major as they are, MN-major as their transposes. Channels are the rows of wgmma, as in
// matmul_many_tokens_sm90.cuh, whose epilogue it shares.
#pragma once

#include "cuda/dense_gemm.hpp"
#include "cuda/launch.hpp"
#include "cuda/operand_order.cuh"
#include "cuda/runtime.hpp"
#include "cuda/tensor_map.hpp"
#include "cuda/warp_specialised_sm90.cuh"

namespace usmlite::cuda {

struct DenseGemmKernelArguments : DenseGemmArguments {
  TileOrder order;
  int boxes;  // of 64 inputs
};

/// One instance of the kernel. Tile: 64 Consumers channels by N tokens; `Residency` blocks share a multiprocessor.
template <Arithmetic A_, class Tile> struct DenseGemm {
  static constexpr Arithmetic A = A_;
  static constexpr int Consumers = Tile::Consumers, N = Tile::N, Residency = Tile::Residency;
  static constexpr int ClusterChannels = Tile::ClusterChannels, ClusterTokens = Tile::ClusterTokens;
  static constexpr int kCluster = ClusterChannels * ClusterTokens;
  static constexpr int kBoxInputs = 64, kSteps = 4, kStepInputs = kBoxInputs / kSteps;
  static constexpr int kTransposedBlockBytes = kBoxInputs * kBoxBytes;  // of 64 tokens or channels
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
          const int input = box * K::kBoxInputs;
          if (arguments.x_transposed) {
#pragma unroll
            for (int block = 0; block < K::N / 64; ++block) {
              copy_shared_box<K::ClusterChannels, K::kBoxInputs>(stage + block * K::kTransposedBlockBytes, x_map, first_token + 64 * block, input,
                                                                 barrier, place.channel, place.same_tokens());
            }
          } else {
            copy_shared_box<K::ClusterChannels, K::N>(stage, x_map, input, first_token, barrier, place.channel, place.same_tokens());
          }
#pragma unroll
          for (int consumer = 0; consumer < K::Consumers; ++consumer) {
            const int channel = first_channel + consumer * kBlockChannels;  // a box is 64 inputs by 64 channels, in either order
            copy_shared_box<K::ClusterTokens, kBlockChannels>(stage + K::kActivationBytes + consumer * K::kBlockBytes, w_map,
                                                              arguments.w_transposed ? channel : input, arguments.w_transposed ? input : channel,
                                                              barrier, place.token, place.same_channels());
          }
          ring.advance();
        }
      }
    }
    ptx::warp_sync();
  } else {
    ptx::registers_acquire<K::kConsumerRegisters>();
    unsigned char* const staging = shared + K::kStagingOffset + warpgroup * K::kStagingBytes;
    const unsigned char* const w_tile = shared + K::kActivationBytes + warpgroup * K::kBlockBytes;
    ptx::previous_kernel_wait();
    for (int index = first; index < order.count(); index += stride) {
      int token_tile, channel_tile;
      order.tile(index, token_tile, channel_tile);
      float d[K::N / 2];
#pragma unroll
      for (int i = 0; i < K::N / 2; ++i) d[i] = 0;
      in_order_of(arguments, [&]<bool XTransposed, bool WTransposed>() {
        const auto descriptor = [](const unsigned char* tile, bool transposed) {
          return transposed ? ptx::transposed_descriptor(tile, K::kTransposedBlockBytes) : ptx::swizzled_descriptor(tile);
        };
        constexpr int kAlongRow = K::kStepInputs * 2 / 16, kAlongColumn = K::kStepInputs * kBoxBytes / 16;
        const uint64_t x = descriptor(shared, XTransposed), w = descriptor(w_tile, WTransposed);
        int previous = -1;
#pragma unroll 1
        for (int box = 0; box < arguments.boxes; ++box) {
          ring.wait_full();
          ptx::wgmma_fence();
          const uint32_t offset = static_cast<uint32_t>(ring.stage * (K::kStageBytes / 16));
#pragma unroll
          for (int step = 0; step < K::kSteps; ++step) {
            ptx::Wgmma<T, K::N>::template dense<WTransposed, XTransposed>(d, w + offset + step * (WTransposed ? kAlongColumn : kAlongRow),
                                                                          x + offset + step * (XTransposed ? kAlongColumn : kAlongRow), true);
          }
          ptx::wgmma_commit();
          ptx::wgmma_wait<1>();
          if (previous >= 0) place.release_both(ring.empty + previous, lane);
          previous = ring.stage;
          ring.advance();
        }
        ptx::wgmma_wait<0>();
#pragma unroll
        for (int i = 0; i < K::N / 2; ++i) ptx::wgmma_touch(d[i]);
        place.release_both(ring.empty + previous, lane);
      });
      const int channel_begin = ((channel_tile * K::ClusterChannels + place.channel) * K::Consumers + warpgroup) * kBlockChannels;
      if (channel_begin < arguments.matmul.weight.channels) {
        store_sums<Output<K::A>, K::N, true>(arguments.matmul, y_map, d, channel_begin, (token_tile * K::ClusterTokens + place.token) * K::N, staging,
                                             1 + warpgroup, arguments.wide);
      }
    }
  }
  if (threadIdx.x % 128 == 0 && warpgroup < K::Consumers) ptx::bulk_store_wait();
  if constexpr (kCluster > 1) ptx::cluster_sync();  // no block of the cluster may end while others write into it
#endif
}

template <class K> void launch_dense_gemm(const DenseGemmArguments& product, StreamHandle stream) {
  const MatmulArguments& m = product.matmul;
  const int channels = m.weight.channels, inputs = m.weight.inputs;
  const int blocks = (channels + kBlockChannels - 1) / kBlockChannels;
  const DenseGemmKernelArguments arguments{product, tile_order<K>(m.tokens, blocks), (inputs + K::kBoxInputs - 1) / K::kBoxInputs};
  // Of an operand (rows, inputs), whose boxes several blocks of a cluster fetch a part of.
  const auto map_of = [&](const void* operand, bool transposed, int rows, int64_t stride, int box_rows, int sharers) {
    if (transposed) return make_tensor_map(operand, 2, inputs, rows, stride, K::kBoxInputs / sharers, kBoxBytes / 2);
    return make_tensor_map(operand, 2, rows, inputs, stride, box_rows / sharers, K::kBoxInputs);
  };
  const TensorMap x_map = map_of(m.x, product.x_transposed, m.tokens, m.x_stride, K::N, K::ClusterChannels);
  const TensorMap w_map = map_of(product.w, product.w_transposed, channels, product.w_stride, kBlockChannels, K::ClusterTokens);
  const OutputMap y_map = product.wide ? OutputMap{} : output_map<K::N>(m);
  launch(dense_gemm_kernel<K>, persistent_shape<K>(arguments.order), stream, x_map, w_map, y_map, arguments);
}

}  // namespace usmlite::cuda
