// The matrix product for many tokens on GPUs before Hopper, yᵀ = W xᵀ (tile_sm80.cuh): the weight, in fragment order, comes
// through shared memory into registers, where codes become fragments, and is multiplied by mma.sync or mma.sp.
//
// Activations come in units of 128 bytes of inputs, weights in *chunks* of at least one slice and one unit, both by cp.async
// into rings of stages, all but one of which are on their way while one is multiplied.
//
// Each output is the sum over all inputs in order, in one thread: no tile size changes a result. It runs on newer GPUs too.
#pragma once

#include <bit>
#include <type_traits>
#include <utility>

#include "cuda/launch.hpp"
#include "cuda/tile_sm80.cuh"

namespace usmlite::cuda {

struct ManyTokensSm80Arguments {
  MatmulArguments matmul;
  TileOrder order;
  int chunks;
  int groups;  // group scales of a channel; 0 without; with zero points 1 at least
  int group_size_log2;
};

template <Arithmetic A_, Codes C_, bool Sparse_, class Tile_> struct ManyTokensSm80 {
  static constexpr Arithmetic A = A_;
  static constexpr Codes C = C_;
  static constexpr bool Sparse = Sparse_;
  using Tile = Tile_;
  using Arguments = ManyTokensSm80Arguments;
  using T = Operand<A>;
  static constexpr bool kWhole = A == Arithmetic::kInt8;
  using Sum = std::conditional_t<kWhole, int32_t, float>;
  using Sums = Sum[Tile::WarpTiles][Tile::Columns][4];

  static constexpr int kUnitInputs = kUnitBytes / (kIs16Bit<A> ? 2 : 1), kSliceInputs = slice_inputs(Sparse);
  static constexpr int kChunkInputs = kUnitInputs > kSliceInputs ? kUnitInputs : kSliceInputs;
  static constexpr int kChunkUnits = kChunkInputs / kUnitInputs, kChunkSlices = kChunkInputs / kSliceInputs;
  static constexpr int kChunkInputsLog2 = std::countr_zero(static_cast<unsigned>(kChunkInputs));
  static constexpr int kUnitSteps = Sparse ? 2 : 4, kTileSteps = kStepsPerTile<A>;
  static constexpr int kStepInputs = kUnitInputs / kUnitSteps;
  static constexpr bool kScalesGroups = kIs16Bit<A> && C != Codes::kFloat16Bit, kZeroPoints = has_zero_points(C);
  static constexpr int kGroupRows = rows_per_group(C), kGroupNumbers = kGroupRows * kBlockChannels;

  // Of a block of 64 channels in a chunk.
  static constexpr int kBlocks = Tile::kChannels / kBlockChannels, kTileBytes = tile_bytes(C);
  static constexpr int kCodeBytes = kChunkSlices * 4 * kTileBytes;
  static constexpr int kMetadataBytes = Sparse ? kChunkSlices * 4 * kMetadataBytesPerTile : 0;
  static constexpr int kScaleOffset = kCodeBytes + kMetadataBytes;
  static constexpr int kBlockBytes = kScaleOffset + (kScalesGroups ? kChunkInputs / 32 * kGroupNumbers * 2 : 0);
  static constexpr int kWeightBytes = kBlocks * kBlockBytes, kActivationBytes = Tile::kTokens * kUnitBytes;

  /// Chunks that so many units in a row touch at most.
  static constexpr int chunks_of(int units) { return (units + kChunkUnits - 2) / kChunkUnits + 1; }
  static constexpr int ring_bytes(int stages) { return stages * kActivationBytes + chunks_of(stages) * kWeightBytes; }
  static constexpr int kStages = ring_bytes(4) <= Tile::kMostSharedBytes ? 4 : ring_bytes(3) <= Tile::kMostSharedBytes ? 3 : 2;
  static constexpr int kWeightStages = chunks_of(kStages);
  static_assert(ring_bytes(kStages) <= Tile::kMostSharedBytes);
  static constexpr int kStagingBytes = StagingSm80<Tile>::kBytes;
  static constexpr int kSharedBytes = ring_bytes(kStages) > kStagingBytes ? ring_bytes(kStages) : kStagingBytes;

  /// Copies `Bytes` adjacent bytes of each block, from `from` and from there on every `stride`; zeros from byte `left` on.
  template <int Bytes>
  static __device__ __forceinline__ void copy_blocks(const uint8_t* from, int64_t stride, int first_block, int last_block, int left,
                                                     unsigned char* to) {
    constexpr int kPieces = Bytes / 16, kAll = kBlocks * kPieces;
#pragma unroll
    for (int i = 0; i < (kAll + Tile::kThreads - 1) / Tile::kThreads; ++i) {
      const int at = static_cast<int>(threadIdx.x) + i * Tile::kThreads, block = at / kPieces, offset = at % kPieces * 16;
      if (kAll % Tile::kThreads != 0 && at >= kAll) break;
      ptx::copy_async_16(to + block * kBlockBytes + offset, from + min(first_block + block, last_block) * stride + offset, offset < left);
    }
  }

  /// Starts the copies of a chunk. For blocks beyond the weight the last one is copied; its products are not stored.
  static __device__ __forceinline__ void start_chunk(const Arguments& arguments, int first_block, int chunk, unsigned char* stage) {
    const WeightView& w = arguments.matmul.weight;
    const int last_block = w.blocks - 1, slice = chunk * kChunkSlices, slices = w.slices - slice;
    constexpr int kSliceBytes = 4 * kTileBytes;
    copy_blocks<kCodeBytes>(w.tiles + static_cast<int64_t>(slice) * kSliceBytes, static_cast<int64_t>(w.slices) * kSliceBytes, first_block,
                            last_block, kChunkSlices > 1 ? slices * kSliceBytes : kCodeBytes, stage);
    if constexpr (Sparse) {
      constexpr int kBytes = 4 * kMetadataBytesPerTile;
      static_assert(kChunkSlices == 1);
      copy_blocks<kMetadataBytes>(w.metadata + static_cast<int64_t>(slice) * kBytes, static_cast<int64_t>(w.slices) * kBytes, first_block,
                                  last_block, kBytes, stage + kCodeBytes);
    }
    if constexpr (kScalesGroups) {
      if (arguments.groups > 0) {
        const int count_log2 = max(kChunkInputsLog2 - arguments.group_size_log2, 0);  // of the chunk's groups
        const int piece = static_cast<int>(threadIdx.x), block = piece >> (3 + count_log2), of_chunk = piece >> 3 & ((1 << count_log2) - 1);
        const int group = (chunk * kChunkInputs >> arguments.group_size_log2) + of_chunk;
        static_assert(kBlocks * kChunkInputs / 32 * 8 <= Tile::kThreads);
        if (block < kBlocks) {
          const int64_t of_block = static_cast<int64_t>(min(first_block + block, last_block)) * arguments.groups + group;
#pragma unroll
          for (int row = 0; row < kGroupRows; ++row) {
            ptx::copy_async_16(stage + block * kBlockBytes + kScaleOffset + (of_chunk * kGroupRows + row) * kBlockChannels * 2 + piece % 8 * 16,
                               w.group_scales + (of_block * kGroupRows + row) * kBlockChannels + piece % 8 * 8, group < arguments.groups);
          }
        }
      }
    }
  }

  /// The words of a tile that step `kStep` of it is the first to need; `kFirst`: none have been read yet.
  template <int kStep, bool kFirst>
  static __device__ __forceinline__ void read_step(uint32_t (&words)[kCodeWords<C>], const unsigned char* tile, int lane) {
    if constexpr (kCodeWords<C> >= 8) {
      constexpr int kPlanes = kCodeWords<C> / 4, kStepsPerPlane = kTileSteps / kPlanes;
      if constexpr (kStep % kStepsPerPlane == 0) {
        constexpr int kPlane = kStep / kStepsPerPlane;
        const uint4 v = reinterpret_cast<const uint4*>(tile)[kPlane * 32 + lane];
        words[4 * kPlane] = v.x, words[4 * kPlane + 1] = v.y, words[4 * kPlane + 2] = v.z, words[4 * kPlane + 3] = v.w;
      }
    } else if constexpr (kStep == 0 || kFirst) {
      read_codes<C>(words, tile, lane, [](const auto* address) { return *address; });
    }
  }

  /// Step `kStep` of a tile's. Dense: with half `half` of b.
  template <int kStep>
  static __device__ __forceinline__ void multiply(Sum (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4], int half, const uint2& metadata) {
    if constexpr (Sparse) {
      if constexpr (kWhole) ptx::mma_sparse_int8(d, a, b, kStep ? metadata.y : metadata.x);
      else ptx::mma_sparse<T, kStep % 2>(d, a, b, kStep / 2 ? metadata.y : metadata.x);
    } else {
      const uint32_t of_column[2] = {b[2 * half], b[2 * half + 1]};
      if constexpr (kWhole) ptx::mma_int8(d, a, of_column);
      else ptx::mma<T>(d, a, of_column);
    }
  }

  /// Adds the products of unit `kUnit` of a chunk. `x`: the unit of the warp's first token; `tile`: the warp's first tile in the
  /// chunk; `metadata`, `scales`: of that tile.
  template <int kUnit>
  static __device__ __forceinline__ void multiply_unit(const Arguments& arguments, const unsigned char* x, const unsigned char* tile,
                                                       const unsigned char* metadata, const unsigned char* scales, int lane, Sums& d) {
    uint32_t words[Tile::WarpTiles][kCodeWords<C>];
    uint2 places[Tile::WarpTiles] = {};
    if constexpr (Sparse) {
#pragma unroll
      for (int i = 0; i < Tile::WarpTiles; ++i) places[i] = reinterpret_cast<const uint2*>(metadata + i * kMetadataBytesPerTile)[lane];
    }
    const auto step = [&]<int kStep>() {  // GCC 12 finds members there only with the name of the class
      using K = ManyTokensSm80;
      constexpr int kOfChunk = kUnit * K::kUnitSteps + kStep, kOfTile = kOfChunk % K::kTileSteps, kSlice = kOfChunk / K::kTileSteps;
      TokenFragments<typename K::Tile, K::Sparse> b;
      b.template load<kStep>(x, lane);
#pragma unroll
      for (int i = 0; i < K::Tile::WarpTiles; ++i) {
        K::template read_step<kOfTile, kStep == 0>(words[i], tile + (4 * kSlice + i) * K::kTileBytes, lane);
        uint32_t a[4];
        Dequantizer<K::C, K::A>::template fragment<kOfTile>(words[i], a);
        if constexpr (K::kScalesGroups) {
          if (arguments.groups > 0) {
            const auto* const of_tile = reinterpret_cast<const uint16_t*>(scales) + i * kTileChannels + lane / 4 +
                                        (kOfChunk * K::kStepInputs >> arguments.group_size_log2) * K::kGroupNumbers;
            if constexpr (K::kZeroPoints) {
              GroupPlace group;
              group.read(of_tile, kBlockChannels);
              place_fragment<typename K::T>(a, group);
            } else {
              scale_fragment<typename K::T>(a, of_tile[0] * 0x10001u, of_tile[8] * 0x10001u);
            }
          }
        }
#pragma unroll
        for (int column = 0; column < K::Tile::Columns; ++column) {
          K::template multiply<kOfTile>(d[i][column], a, b.registers[K::Sparse ? column : column / 2], column % 2, places[i]);
        }
      }
    };
    [&]<int... kStep>(std::integer_sequence<int, kStep...>) { (step.template operator()<kStep>(), ...); }(
        std::make_integer_sequence<int, kUnitSteps>());
  }

  // What another way of multiplying the same units takes the place of, besides Sums and multiply_unit (matmul_grouped_int8.cu).
  /// Before the first unit. `first_tile`: of the warp, in the weight.
  static __device__ __forceinline__ void begin(const Arguments&, int, int, Sums&) {}
  /// After the last one, what is finished and stored.
  static __device__ __forceinline__ const Sums& result(const Arguments&, const Sums& d) { return d; }

  /// `K`: this, or what is derived from it.
  template <class K> static __device__ __forceinline__ void run(const Arguments& arguments) {
    const MatmulArguments& m = arguments.matmul;
    unsigned char* const shared = shared_memory();
    unsigned char* const weight_ring = shared + kStages * kActivationBytes;
    const WarpPlaceSm80<Tile> warp;
    int token_tile, channel_tile;
    arguments.order.tile(static_cast<int>(blockIdx.x), token_tile, channel_tile);
    const int first_token = token_tile * Tile::kTokens, first_block = channel_tile * kBlocks;
    constexpr int kElementBytes = kIs16Bit<A> ? 2 : 1;
    ptx::take_turn();

    const RowCopies<Tile::kTokens, Tile::kThreads> x(m.x, m.x_stride * kElementBytes, m.weight.inputs * kElementBytes, first_token, m.tokens);
    const int units = arguments.chunks * kChunkUnits;
    int fetched_stage = 0, fetched_weight_stage = 0;
    // `begins_chunk`: the unit is the first of its chunk, which comes with it.
    const auto start_unit = [&](int unit, bool begins_chunk) {
      if (unit < units) {
        x.start(unit, shared + fetched_stage * kActivationBytes);
        fetched_stage = fetched_stage + 1 == kStages ? 0 : fetched_stage + 1;
        if (begins_chunk) {
          start_chunk(arguments, first_block, unit / kChunkUnits, weight_ring + fetched_weight_stage * kWeightBytes);
          fetched_weight_stage = fetched_weight_stage + 1 == kWeightStages ? 0 : fetched_weight_stage + 1;
        }
      }
      ptx::copy_async_commit();
    };
#pragma unroll
    for (int unit = 0; unit < kStages - 1; ++unit) start_unit(unit, unit % kChunkUnits == 0);

    typename K::Sums d = {};
    K::begin(arguments, first_block * 4 + warp.first_tile, warp.lane, d);
    const int block = warp.first_tile / 4, tile = warp.first_tile % 4;
    int stage = 0, weight_stage = 0;
#pragma unroll 1
    for (int chunk = 0; chunk < arguments.chunks; ++chunk) {
      const unsigned char* const weight = weight_ring + weight_stage * kWeightBytes + block * kBlockBytes;
      const auto unit = [&]<int kUnit>() {
        ptx::copy_async_wait<K::kStages - 2>();
        ptx::block_sync();  // the unit has come for all, and the one before is read
        start_unit(chunk * K::kChunkUnits + kUnit + K::kStages - 1, (kUnit + K::kStages - 1) % K::kChunkUnits == 0);
        K::template multiply_unit<kUnit>(arguments, shared + stage * K::kActivationBytes + warp.first_token * kUnitBytes,
                                         weight + tile * K::kTileBytes, weight + K::kCodeBytes + tile * kMetadataBytesPerTile,
                                         weight + K::kScaleOffset + tile * kTileChannels * 2, warp.lane, d);
        stage = stage + 1 == K::kStages ? 0 : stage + 1;
      };
      [&]<int... kUnit>(std::integer_sequence<int, kUnit...>) { (unit.template operator()<kUnit>(), ...); }(
          std::make_integer_sequence<int, kChunkUnits>());
      weight_stage = weight_stage + 1 == kWeightStages ? 0 : weight_stage + 1;
    }
    ptx::copy_async_wait<0>();
    ptx::block_sync();
    store_sums_sm80<Output<A>, Tile, kWhole>(m, K::result(arguments, d), first_block * kBlockChannels + warp.first_tile * kTileChannels,
                                             first_token + warp.first_token, warp.lane,
                                             reinterpret_cast<float*>(shared + ptx::warp_id() * StagingSm80<Tile>::kWarpBytes));
  }
};

template <class K>
__global__ void __launch_bounds__(K::Tile::kThreads, K::Tile::Residency)
    matmul_many_tokens_sm80_kernel(const __grid_constant__ ManyTokensSm80Arguments arguments) {
  K::template run<K>(arguments);
}

template <class K> void launch_many_tokens_sm80(const MatmulArguments& m, StreamHandle stream) {
  const WeightView& w = m.weight;
  ManyTokensSm80Arguments arguments{m, tile_order_sm80<typename K::Tile>(m.tokens, w.channels), 0, 0, 0};
  arguments.chunks = (w.slices + K::kChunkSlices - 1) / K::kChunkSlices;
  if (K::kScalesGroups) arguments.groups = groups_of(w), arguments.group_size_log2 = group_size_log2(w);
  const LaunchShape shape{.grid_x = static_cast<unsigned>(arguments.order.count()),
                          .grid_y = 1,
                          .grid_z = 1,
                          .threads = K::Tile::kThreads,
                          .shared_bytes = K::kSharedBytes,
                          .overlaps_previous = kernels_take_turns()};
  launch(matmul_many_tokens_sm80_kernel<K>, shape, stream, arguments);
}

}  // namespace usmlite::cuda
