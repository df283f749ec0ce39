// The way of a weight in fragment order to the tensor cores, in the kernel for many tokens on Hopper: stages of shared
// memory to registers, and codes to fragments there.
#pragma once

#include "cuda/many_tokens_instance_sm90.cuh"
#include "cuda/tile_parts_sm90.cuh"

namespace usmlite::cuda {

#if USMLITE_SM90A

/// The weights of a unit, ready for the tensor cores.
template <class K> struct Fragments {
  uint32_t a[K::kSteps][4];
  uint32_t metadata[K::kSteps];
};

template <class K> using Place = ClusterPlace<K::ClusterChannels, K::ClusterTokens>;
template <class K> using ActivationRing = Ring<K::kActivationStages>;
template <class K> using WeightRing = Ring<K::kWeightStages>;

template <class K> using Walk = TileWalk<K::kShares>;

/// What a consumer keeps of a chunk until all its units are prepared.
template <class K> struct Chunk {
  uint32_t words[K::kChunkSlices][kCodeWords<K::C>];
  uint32_t metadata[K::kChunkSlices][2];
  // Of every 32 inputs: the scales of their group, or all that it has where there are zero points.
  uint32_t scales[K::Grouped ? K::kChunkInputs / 32 : 1][2];
  GroupPlace groups[K::kZeroPoints ? K::kChunkInputs / 32 : 1];
};

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
      if constexpr (K::kZeroPoints) {
        chunk.groups[i].read(scales + group * K::kGroupNumbers, kBlockChannels);
      } else {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          chunk.scales[i][half] = arguments.groups > 0 ? scales[group * kBlockChannels + 8 * half] * 0x10001u : Mantissa<typename K::T>::kOne;
        }
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
    constexpr int kGroup = kStep * K::kStepInputs / 32;
    if constexpr (K::kZeroPoints) {
      place_fragment<typename K::T>(a, chunk.groups[kGroup]);
    } else if constexpr (K::Grouped) {
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

#endif  // USMLITE_SM90A

}  // namespace usmlite::cuda
