// The matrix product for many tokens on Hopper, yᵀ = W xᵀ: the weight, in fragment order, goes through shared memory into
// registers, is dequantized there (many_tokens_weight_sm90.cuh) and multiplied as the register operand of wgmma or wgmma.sp;
// activations are the operand in shared memory, in boxes of 128 bytes of inputs. A *unit* of one or two boxes is multiplied
// at a time, while the weights of the next are dequantized.
//
// Each output is the sum over all inputs in order, in one thread: no tile size changes a result, unless blocks share the
// inputs of a tile (tile_parts_sm90.cuh), which outputs are then the sums of the parts in order.
#pragma once

#include <bit>

#include "cuda/launch.hpp"
#include "cuda/many_tokens_weight_sm90.cuh"
#include "cuda/runtime.hpp"
#include "cuda/tensor_map.hpp"
#include "cuda/tile_parts_sm90.cuh"

namespace usmlite::cuda {

#if USMLITE_SM90A

/// One thread fills the stages of a part of a tile.
template <class K>
__device__ __forceinline__ void produce_tile(const TensorMap& x_map, const ManyTokensArguments& arguments, unsigned char* shared,
                                             ActivationRing<K>& activations, WeightRing<K>& weights, const Place<K>& place,
                                             const Walk<K>& walk, int first_block, int token_begin) {
  const WeightView& w = arguments.matmul.weight;
#pragma unroll 1
  for (int unit = 2 * walk.begin(), end = 2 * walk.end(); unit < end; ++unit) {
    if (unit % K::kChunkUnits == 0) {
      weights.wait_empty();
      unsigned char* const stage = shared + K::kActivationStages * K::kActivationBytes + weights.stage * K::kWeightBytes;
      uint64_t* const barrier = weights.full + weights.stage;
      // Inputs padded to even numbers of units may lie beyond the weight: their activations are zeros, any weight will do.
      const int slice = unit / K::kChunkUnits * K::kChunkSlices;
      int first_group = 0, groups = 0;
      if (K::Grouped && arguments.groups > 0) {
        const int inputs = min(slice, w.slices - 1) * K::kSliceInputs;
        first_group = min(inputs >> arguments.group_size_log2, arguments.groups - 1);
        groups = min(max(K::kChunkInputs >> arguments.group_size_log2, 1), arguments.groups - first_group);
      }
      ptx::barrier_arrive_expect(barrier, K::Consumers * (K::kCodeBytes + K::kMetadataBytes + groups * K::kGroupNumbers * 2));
#pragma unroll
      for (int consumer = 0; consumer < K::Consumers; ++consumer) {
        const int block = min(first_block + consumer, w.blocks - 1);
        unsigned char* to = stage + consumer * K::kBlockBytes;
#pragma unroll
        for (int i = 0; i < K::kChunkSlices; ++i) {
          const int64_t tile = (static_cast<int64_t>(block) * w.slices + min(slice + i, w.slices - 1)) * 4;
          copy_shared_bytes<K::ClusterTokens, 4 * K::kTileBytes>(to + i * 4 * K::kTileBytes, w.tiles + tile * K::kTileBytes, barrier,
                                                                 place.token, place.same_channels());
          if constexpr (K::Sparse) {
            copy_shared_bytes<K::ClusterTokens, 4 * kMetadataBytesPerTile>(
                to + K::kCodeBytes + i * 4 * kMetadataBytesPerTile, w.metadata + tile * kMetadataBytesPerTile, barrier, place.token,
                place.same_channels());
          }
        }
        if (groups > 0) {
          ptx::bulk_copy(to + K::kCodeBytes + K::kMetadataBytes,
                         w.group_scales + (static_cast<int64_t>(block) * arguments.groups + first_group) * K::kGroupNumbers,
                         groups * K::kGroupNumbers * 2, barrier);
        }
      }
      weights.advance();
    }
    activations.wait_empty();
    unsigned char* const stage = shared + activations.stage * K::kActivationBytes;
    uint64_t* const barrier = activations.full + activations.stage;
    ptx::barrier_arrive_expect(barrier, K::kActivationBytes);
#pragma unroll
    for (int box = 0; box < K::UnitBoxes; ++box) {
      copy_shared_box<K::ClusterChannels, K::N>(stage + box * K::N * kBoxBytes, x_map, (unit * K::UnitBoxes + box) * K::kBoxInputs, token_begin,
                                                barrier, place.channel, place.same_tokens());
    }
    activations.advance();
  }
}
template <class K, int Step = 0>
__device__ __forceinline__ void multiply_steps(typename K::Sum (&d)[K::N / 2], const Fragments<K>& f, uint64_t x) {
  if constexpr (Step < K::kSteps) {
    using Product = ptx::Wgmma<typename K::T, K::N>;
    constexpr int kBytes = Step / K::kBoxSteps * K::N * kBoxBytes + Step % K::kBoxSteps * (kBoxBytes / K::kBoxSteps);
    if constexpr (K::Sparse) {
      Product::template sparse<kIs16Bit<K::A> ? Step % 2 : 0>(d, f.a[Step], x + kBytes / 16, f.metadata[Step], true);
    } else {
      Product::dense(d, f.a[Step], x + kBytes / 16, true);
    }
    multiply_steps<K, Step + 1>(d, f, x);
  }
}

/// Starts the products of a unit.
template <class K>
__device__ __forceinline__ void multiply_unit(typename K::Sum (&d)[K::N / 2], const Fragments<K>& f, uint64_t first_stage,
                                             ActivationRing<K>& activations) {
  activations.wait_full();
  ptx::wgmma_fence();
  multiply_steps<K>(d, f, first_stage + static_cast<uint32_t>(activations.stage * (K::kActivationBytes / 16)));
  ptx::wgmma_commit();
}

template <class K>
__device__ __forceinline__ void consume_tile(const ManyTokensArguments& arguments, typename K::Sum (&d)[K::N / 2], const unsigned char* block,
                                             uint64_t first_stage, ActivationRing<K>& activations, WeightRing<K>& weights,
                                             const Place<K>& place, const Walk<K>& walk, int warp, int lane) {
#pragma unroll
  for (int i = 0; i < K::N / 2; ++i) d[i] = 0;
  Chunk<K> chunk;
  Fragments<K> even, odd;
#pragma unroll
  for (int i = 0; i < K::kSteps; ++i) {
    even.metadata[i] = odd.metadata[i] = 0;
#pragma unroll
    for (int r = 0; r < 4; ++r) even.a[i][r] = odd.a[i][r] = 0;
  }
  int unit = 2 * walk.begin();
  read_chunk<K>(chunk, arguments, block, weights, place, warp, lane, unit);
  dequantize_unit<K, 0>(even, chunk, arguments.zero);
  int previous = -1;
#pragma unroll 1
  for (int pairs = walk.end() - walk.begin(); pairs > 0; --pairs, unit += 2) {
    multiply_unit<K>(d, even, first_stage, activations);
    ptx::wgmma_wait<1>();
    if (previous >= 0) place.release_activations(activations.empty + previous, lane);
    previous = activations.stage;
    activations.advance();
    if constexpr (K::kChunkUnits == 1) read_chunk<K>(chunk, arguments, block, weights, place, warp, lane, unit + 1);
    dequantize_unit<K, K::kChunkUnits - 1>(odd, chunk, arguments.zero);

    multiply_unit<K>(d, odd, first_stage, activations);
    ptx::wgmma_wait<1>();
    place.release_activations(activations.empty + previous, lane);
    previous = activations.stage;
    activations.advance();
    if (pairs > 1) {
      read_chunk<K>(chunk, arguments, block, weights, place, warp, lane, unit + 2);
      dequantize_unit<K, 0>(even, chunk, arguments.zero);
    }
  }
  ptx::wgmma_wait<0>();
  place.release_activations(activations.empty + previous, lane);
#pragma unroll
  for (int i = 0; i < K::N / 2; ++i) ptx::wgmma_touch(d[i]);
}

#endif  // USMLITE_SM90A

template <class K>
__global__ void __launch_bounds__(K::kThreads, K::Residency)
    matmul_many_tokens_kernel(const __grid_constant__ TensorMap x_map, const __grid_constant__ OutputMap y_map,
                              const __grid_constant__ ManyTokensArguments arguments) {
#if USMLITE_SM90A
  unsigned char* const shared = shared_memory();
  uint64_t* const barriers = reinterpret_cast<uint64_t*>(shared + K::kBarrierOffset);
  ActivationRing<K> activations(barriers);
  WeightRing<K> weights(barriers + ActivationRing<K>::kBarriers);
  const int warp = ptx::warp_id(), lane = ptx::lane_id(), warpgroup = warp / 4;
  const Place<K> place;
  constexpr int kCluster = K::kCluster;
  if (threadIdx.x == 0) {
    activations.init(4 * K::Consumers * K::ClusterChannels);
    weights.init(4 * K::Consumers * K::ClusterTokens);
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
      ptx::previous_kernel_wait();
      for (Walk<K> walk(arguments.parts, order.count(), first, stride); !walk.is_over(); walk.advance()) {
        int token_tile, channel_tile;
        order.tile(walk.tile, token_tile, channel_tile);
        produce_tile<K>(x_map, arguments, shared, activations, weights, place, walk,
                        (channel_tile * K::ClusterChannels + place.channel) * K::Consumers,
                        (token_tile * K::ClusterTokens + place.token) * K::N);
      }
    }
    ptx::warp_sync();
  } else {
    ptx::registers_acquire<K::kConsumerRegisters>();
    const unsigned char* const block = shared + K::kActivationStages * K::kActivationBytes + warpgroup * K::kBlockBytes;
    unsigned char* const staging = shared + K::kStagingOffset + warpgroup * K::kStagingBytes;
    const uint64_t first_stage = ptx::swizzled_descriptor(shared);
    ptx::previous_kernel_wait();
    int* const flag = reinterpret_cast<int*>(shared + K::kFlagOffset) + warpgroup;
    for (Walk<K> walk(arguments.parts, order.count(), first, stride); !walk.is_over(); walk.advance()) {
      typename K::Sum d[K::N / 2];
      consume_tile<K>(arguments, d, block, first_stage, activations, weights, place, walk, warp % 4, lane);
      // Which tile this is is worked out now, not kept meanwhile.
      ptx::wgmma_touch(reinterpret_cast<uint32_t&>(walk.tile));
      int token_tile, channel_tile;
      order.tile(walk.tile, token_tile, channel_tile);
      const int channel_block = (channel_tile * K::ClusterChannels + place.channel) * K::Consumers + warpgroup;
      if (channel_block >= arguments.matmul.weight.blocks) continue;
      bool has_all = walk.is_whole();
      if constexpr (K::kShares) {
        const int rank = place.token * K::ClusterChannels + place.channel;
        if (!has_all) {
          has_all = add_parts<K::N>(arguments.matmul, walk, rank * K::Consumers + warpgroup, kCluster * K::Consumers, flag, 1 + warpgroup, d);
        }
      }
      if (has_all) {
        store_sums<Output<K::A>, K::N>(arguments.matmul, y_map, d, channel_block * kBlockChannels,
                                       (token_tile * K::ClusterTokens + place.token) * K::N, staging, 1 + warpgroup);
      }
    }
  }
  if (threadIdx.x % 128 == 0 && warpgroup < K::Consumers) ptx::bulk_store_wait();
  if constexpr (kCluster > 1) ptx::cluster_sync();  // no block of the cluster may end while others write into it
#endif
}

template <class K> void launch_many_tokens(const MatmulArguments& m, int parts, StreamHandle stream) {
  const WeightView& w = m.weight;
  ManyTokensArguments arguments{m, tile_order<K>(m.tokens, w.blocks), {}, 0, 0, 0};
  const int tiles = arguments.order.token_tiles * arguments.order.channel_tiles;
  const int pairs = (w.inputs + 2 * K::kUnitInputs - 1) / (2 * K::kUnitInputs);
  arguments.parts = divide_tiles(tiles, pairs, gpu_properties().multiprocessors * K::Residency / K::kCluster, K::kShares ? parts : 1);
  if (arguments.parts.clusters > 0 && (!m.partial_sums || !m.counters || m.partial_sum_count < partial_sum_count<K>(arguments.parts))) {
    arguments.parts = divide_tiles(tiles, pairs, 1, 1);
  }
  if (K::Grouped) arguments.groups = groups_of(w), arguments.group_size_log2 = group_size_log2(w);
  const int bytes = kBoxBytes / K::kBoxInputs;
  const TensorMap x = make_tensor_map(m.x, bytes, m.tokens, w.inputs, m.x_stride, K::N / K::ClusterChannels, K::kBoxInputs);
  LaunchShape shape = persistent_shape<K>(arguments.order);
  if (arguments.parts.clusters > 0) shape.grid_x = static_cast<unsigned>(arguments.parts.clusters * K::kCluster);
  launch(matmul_many_tokens_kernel<K>, shape, stream, x, output_map<K::N>(m), arguments);
}

}  // namespace usmlite::cuda
