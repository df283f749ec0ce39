// What an instance of the kernel for many tokens on Hopper (matmul_many_tokens_sm90.cuh) is made of: its sizes in shared
// memory and registers.
#pragma once

#include <type_traits>

#include "cuda/many_tokens_tiles.hpp"
#include "cuda/warp_specialised_sm90.cuh"

namespace usmlite::cuda {

struct ManyTokensArguments {
  MatmulArguments matmul;
  TileOrder order;
  TileParts parts;
  int groups;           // group scales of a channel; 0 without, which instances for groups take too; with zero points 1 at least
  int group_size_log2;
  uint32_t zero;
};

/// One instance of the kernel. Tile (many_tokens_tiles.hpp): 64 Consumers channels by N tokens.
template <Arithmetic A_, Codes C_, bool Sparse_, bool Grouped_, class Tile> struct ManyTokens {
  static constexpr Arithmetic A = A_;
  static constexpr Codes C = C_;
  static constexpr bool Sparse = Sparse_, Grouped = Grouped_, kZeroPoints = has_zero_points(C_);
  static constexpr int Consumers = Tile::Consumers, N = Tile::N, Residency = Tile::Residency, UnitBoxes = Tile::UnitBoxes;
  static constexpr int ClusterChannels = Tile::ClusterChannels, ClusterTokens = Tile::ClusterTokens;
  static constexpr int kCluster = ClusterChannels * ClusterTokens;
  static constexpr bool kShares = kTileMayBeShared<Tile>;
  using T = Operand<A>;
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
  static constexpr int kGroupRows = rows_per_group(C), kGroupNumbers = kGroupRows * kBlockChannels;
  static constexpr int kScaleBytes = Grouped ? kChunkInputs / 32 * kGroupNumbers * 2 : 0;
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
  static constexpr int kFlagOffset = kBarrierOffset + 8 * (2 * kActivationStages + 2 * kWeightStages);  // a word of each consumer
  static constexpr int kSharedBytes = kFlagOffset + 4 * Consumers;

  // Producers give registers to consumers.
  static constexpr int kThreads = 128 * (Consumers + 1);
  static constexpr int kProducerRegisters = Consumers * Residency > 3 ? 40 : 56;
  static constexpr int kConsumerRegisters = [] {
    const int all = 65536 / (kThreads * Residency) / 8 * 8 * (Consumers + 1);
    const int each = (all - kProducerRegisters) / Consumers / 8 * 8;
    return each > 240 ? 240 : each;
  }();
};

}  // namespace usmlite::cuda
