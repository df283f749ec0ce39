// The matrix product for many tokens on Hopper, yᵀ = W xᵀ: the weight, in fragment order, goes through shared memory into
// registers, is dequantized there and multiplied as the register operand of wgmma or wgmma.sp; activations are the
// operand in shared memory, in boxes of 128 bytes of inputs. A *unit* of one or two boxes is multiplied at a time, while
// the weights of the next are dequantized.
//
// Each output is the sum over all inputs in order, in one thread: no tile size changes a result.
#pragma once

#include <bit>
#include <type_traits>

#include "cuda/launch.hpp"
#include "cuda/runtime.hpp"
#include "cuda/tensor_map.hpp"
#include "cuda/warp_specialised_sm90.cuh"

namespace usmlite::cuda {

struct ManyTokensArguments {
  MatmulArguments matmul;
  TileOrder order;
  int units;            // even
  int groups;           // group scales of a channel; 0 without, which instances for groups take too
  int group_size_log2;
  uint32_t zero;
};

/// One instance of the kernel. Tile (many_tokens_tiles.hpp): 64 Consumers channels by N tokens.
template <Arithmetic A_, Codes C_, bool Sparse_, bool Grouped_, class Tile> struct ManyTokens {
  static constexpr Arithmetic A = A_;
  static constexpr Codes C = C_;
  static constexpr bool Sparse = Sparse_, Grouped = Grouped_;
  static constexpr int Consumers = Tile::Consumers, N = Tile::N, Residency = Tile::Residency, UnitBoxes = Tile::UnitBoxes;
  static constexpr int ClusterChannels = Tile::ClusterChannels, ClusterTokens = Tile::ClusterTokens;
  static constexpr int kCluster = ClusterChannels * ClusterTokens;
  using T = Element<A>;
  using Sum = std::conditional_t<A == Arithmetic::kInt8, int32_t, float>;

  // A chunk of the weight is what at least one slice and at least one unit cover.
  static constexpr int kBoxInputs = kIs16Bit<A> ? 64 : 128, kUnitInputs = UnitBoxes * kBoxInputs;
  static constexpr int kSliceInputs = slice_inputs(Sparse), kTileBytes = tile_bytes(C);
  static constexpr int kChunkInputs = kUnitInputs > kSliceInputs ? kUnitInputs : kSliceInputs;
  static constexpr int kChunkSlices = kChunkInputs / kSliceInputs;
  static constexpr int kChunkUnits = kChunkInputs / kUnitInputs;
  static constexpr int kBoxSteps = Sparse ? 2 : 4, kSteps = UnitBoxes * kBoxSteps;  // products of a box, of a unit
  static constexpr int kStepInputs = kBoxInputs / kBoxSteps;

  static constexpr int kCodeBytes = kChunkSlices * 4 * kTileBytes;  // of a block of 64 channels in a chunk
  static constexpr int kMetadataBytes = Sparse ? kChunkSlices * 4 * kMetadataBytesPerTile : 0;
  static constexpr int kScaleBytes = Grouped ? kChunkInputs / 32 * kBlockChannels * 2 : 0;
  static constexpr int kBlockBytes = kCodeBytes + kMetadataBytes + kScaleBytes;
  static constexpr int kWeightBytes = Consumers * kBlockBytes;
  static constexpr int kActivationBytes = UnitBoxes * N * kBoxBytes;

  static constexpr int kStagingBytes = Staging<N>::kBytes;

  // As many stages as fit, activations and weights in proportion.
  static constexpr int kBudget = (Residency == 1 ? 226 : 112) * 1024 - Consumers * kStagingBytes - 1536;
  static constexpr int kWeightStages = [] {
    const int fit = kBudget / (kWeightBytes + kChunkUnits * kActivationBytes);
    return fit < 2 ? 2 : fit > 8 ? 8 : fit;
  }();
  static constexpr int kActivationStages = [] {
    const int fit = (kBudget - kWeightStages * kWeightBytes) / kActivationBytes;
    return fit > 8 ? 8 : fit;
  }();
  static_assert(kActivationStages >= 3);
  static constexpr int kStagingOffset = (kActivationStages * kActivationBytes + kWeightStages * kWeightBytes + 1023) / 1024 * 1024;
  static constexpr int kBarrierOffset = kStagingOffset + Consumers * kStagingBytes;
  static constexpr int kSharedBytes = kBarrierOffset + 8 * (2 * kActivationStages + 2 * kWeightStages);

  // Producers give registers to consumers.
  static constexpr int kThreads = 128 * (Consumers + 1);
  static constexpr int kProducerRegisters = Consumers * Residency > 3 ? 40 : 56;
  static constexpr int kConsumerRegisters = [] {
    const int all = 65536 / (kThreads * Residency) / 8 * 8 * (Consumers + 1);
    const int each = (all - kProducerRegisters) / Consumers / 8 * 8;
    return each > 240 ? 240 : each;
  }();
};

#if USMLITE_SM90A

/// The weights of a unit, ready for the tensor cores.
template <class K> struct Fragments {
  uint32_t a[K::kSteps][4];
  uint32_t metadata[K::kSteps];
};

template <class K> using Place = ClusterPlace<K::ClusterChannels, K::ClusterTokens>;
template <class K> using ActivationRing = Ring<K::kActivationStages>;
template <class K> using WeightRing = Ring<K::kWeightStages>;

/// What a consumer keeps of a chunk until all its units are prepared.
template <class K> struct Chunk {
  uint32_t words[K::kChunkSlices][kCodeWords<K::C>];
  uint32_t metadata[K::kChunkSlices][2];
  uint32_t scales[K::Grouped ? K::kChunkInputs / 32 : 1][2];
};

/// One thread fills the stages of a tile.
template <class K>
__device__ __forceinline__ void produce_tile(const TensorMap& x_map, const ManyTokensArguments& arguments, unsigned char* shared,
                                             ActivationRing<K>& activations, WeightRing<K>& weights, const Place<K>& place,
                                             int first_block, int token_begin) {
  const WeightView& w = arguments.matmul.weight;
#pragma unroll 1
  for (int unit = 0; unit < arguments.units; ++unit) {
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
      ptx::barrier_arrive_expect(barrier, K::Consumers * (K::kCodeBytes + K::kMetadataBytes + groups * kBlockChannels * 2));
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
                         w.group_scales + (static_cast<int64_t>(block) * arguments.groups + first_group) * kBlockChannels,
                         groups * kBlockChannels * 2, barrier);
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

/// Reads a chunk into registers and gives its stage back.
template <class K>
__device__ __forceinline__ void read_chunk(Chunk<K>& chunk, const ManyTokensArguments& arguments, const unsigned char* block,
                                           WeightRing<K>& weights, const Place<K>& place, int warp, int lane, int unit) {
  weights.wait_full();
  const unsigned char* const stage = block + weights.stage * K::kWeightBytes;
#pragma unroll
  for (int i = 0; i < K::kChunkSlices; ++i) {
    read_codes<K::C>(chunk.words[i], stage + (4 * i + warp) * K::kTileBytes, lane, [](const auto* p) { return *p; });
  }
  if constexpr (K::Sparse) {
#pragma unroll
    for (int i = 0; i < K::kChunkSlices; ++i) {
      const uint2 v = reinterpret_cast<const uint2*>(stage + K::kCodeBytes + (4 * i + warp) * kMetadataBytesPerTile)[lane];
      chunk.metadata[i][0] = v.x, chunk.metadata[i][1] = v.y;
    }
  }
  if constexpr (K::Grouped) {
    // Without groups, ones.
    const WeightView& w = arguments.matmul.weight;
    const auto* const scales = reinterpret_cast<const uint16_t*>(stage + K::kCodeBytes + K::kMetadataBytes) + kTileChannels * warp + lane / 4;
    const int inputs = min(unit / K::kChunkUnits * K::kChunkSlices, w.slices - 1) * K::kSliceInputs;
    const int last = arguments.groups - 1, first = min(inputs >> arguments.group_size_log2, last);
#pragma unroll
    for (int i = 0; i < K::kChunkInputs / 32; ++i) {
      const int group = min((inputs + 32 * i) >> arguments.group_size_log2, last) - first;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        chunk.scales[i][half] = arguments.groups > 0 ? scales[group * kBlockChannels + 8 * half] * 0x10001u : Mantissa<typename K::T>::kOne;
      }
    }
  }
  ptx::warp_sync();
  place.release_weights(weights.empty + weights.stage, lane);
  weights.advance();
}

/// The fragments of the unit numbered `Unit` in its chunk.
///
/// Products read their fragments and metadata from registers while they run, which the compiler does not take into account
/// when it gives registers to values. So each new value is combined with the one before in its place, which thereby stays in
/// its register until its products have ended. `zero` is 0, which the compiler does not know.
template <class K, int Unit, int Step = 0>
__device__ __forceinline__ void dequantize_unit(Fragments<K>& f, const Chunk<K>& chunk, uint32_t zero) {
  if constexpr (Step < K::kSteps) {
    constexpr int kStep = Unit * K::kSteps + Step, kPerTile = kStepsPerTile<K::A>;
    uint32_t a[4];
    Dequantizer<K::C, K::A>::template fragment<kStep % kPerTile>(chunk.words[kStep / kPerTile], a);
    if constexpr (K::Grouped) {
      constexpr int kGroup = kStep * K::kStepInputs / 32;
      scale_fragment<typename K::T>(a, chunk.scales[kGroup][0], chunk.scales[kGroup][1]);
    }
#pragma unroll
    for (int r = 0; r < 4; ++r) f.a[Step][r] = a[r] | (f.a[Step][r] & zero);
    if constexpr (K::Sparse) {
      f.metadata[Step] = chunk.metadata[kStep / kPerTile][kStep % kPerTile / (kPerTile / 2)] | (f.metadata[Step] & zero);
    }
    // Done here, not where the compiler may put it, between products that run.
#pragma unroll
    for (int r = 0; r < 4; ++r) ptx::wgmma_touch(f.a[Step][r]);
    if constexpr (K::Sparse) ptx::wgmma_touch(f.metadata[Step]);
    dequantize_unit<K, Unit, Step + 1>(f, chunk, zero);
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
                                             const Place<K>& place, int warp, int lane) {
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
  read_chunk<K>(chunk, arguments, block, weights, place, warp, lane, 0);
  dequantize_unit<K, 0>(even, chunk, arguments.zero);
  int previous = -1;
#pragma unroll 1
  for (int unit = 0; unit < arguments.units; unit += 2) {
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
    if (unit + 2 < arguments.units) {
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
      for (int index = first; index < order.count(); index += stride) {
        int token_tile, channel_tile;
        order.tile(index, token_tile, channel_tile);
        produce_tile<K>(x_map, arguments, shared, activations, weights, place,
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
    for (int index = first; index < order.count(); index += stride) {
      int token_tile, channel_tile;
      order.tile(index, token_tile, channel_tile);
      const int channel_block = (channel_tile * K::ClusterChannels + place.channel) * K::Consumers + warpgroup;
      typename K::Sum d[K::N / 2];
      consume_tile<K>(arguments, d, block, first_stage, activations, weights, place, warp % 4, lane);
      if (channel_block < arguments.matmul.weight.blocks) {
        store_sums<Output<K::A>, K::N>(arguments.matmul, y_map, d, channel_block * kBlockChannels,
                                       (token_tile * K::ClusterTokens + place.token) * K::N, staging, 1 + warpgroup);
      }
    }
  }
  if (threadIdx.x % 128 == 0 && warpgroup < K::Consumers) ptx::bulk_store_wait();
  if constexpr (kCluster > 1) ptx::cluster_sync();  // no block of the cluster may end while others write into it
#endif
}

template <class K> void launch_many_tokens(const MatmulArguments& m, StreamHandle stream) {
  const WeightView& w = m.weight;
  ManyTokensArguments arguments{m, tile_order<K>(m.tokens, w.blocks), 0, 0, 0, 0};
  arguments.units = (w.inputs + 2 * K::kUnitInputs - 1) / (2 * K::kUnitInputs) * 2;
  if (K::Grouped && w.group_size > 0) {
    arguments.groups = group_count(w.inputs, w.group_size);
    arguments.group_size_log2 = std::countr_zero(static_cast<unsigned>(w.group_size));
  }
  const int bytes = kBoxBytes / K::kBoxInputs;
  const TensorMap x = make_tensor_map(m.x, bytes, m.tokens, w.inputs, m.x_stride, K::N / K::ClusterChannels, K::kBoxInputs);
  launch(matmul_many_tokens_kernel<K>, persistent_shape<K>(arguments.order), stream, x, output_map<K::N>(m), arguments);
}

}  // namespace usmlite::cuda
