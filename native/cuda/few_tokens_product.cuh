// What the warps of a product with few tokens do with a chunk that has come: codes become fragments in registers
// (dequantize.cuh), and a warp holds the sums of 32 channels, two tiles, for all tokens. Scales of groups multiply float32 sums
// of their group, so that weights enter the product exactly; codes with zero points become weights, rounded to 16 bits, before.
#pragma once

#include <utility>

#include "cuda/few_tokens_ring.cuh"

namespace usmlite::cuda {

template <Codes C, Arithmetic A, bool kSparse, int kTokens> struct FewTokensProduct : FewTokensRing<C, A, kSparse, kTokens> {
  using Ring = FewTokensRing<C, A, kSparse, kTokens>;
  using typename Ring::Place, typename Ring::Source;
  using Ring::kGroupRows, Ring::kSlices, Ring::kInputs, Ring::kTileBytes, Ring::kCodeBytes, Ring::kMetadataBytes, Ring::kRowBytes, Ring::kRowUnits,
      Ring::kTiles;
  using Ring::fetch_activations, Ring::fetch_weight, Ring::place, Ring::source, Ring::swizzled_unit, Ring::wait_for_chunk;

  using T = Operand<A>;
  static constexpr bool kWhole = A == Arithmetic::kInt8;
  using Sum = std::conditional_t<kWhole, int32_t, float>;
  static constexpr int kSteps = kStepsPerTile<A>;
  static constexpr int kColumns = kTokens / 8;         // products side by side
  static constexpr int kGroupSteps = kSparse ? 1 : 2;  // a group of inputs may end after every so many steps
  // Activations are loaded as four matrices of 8 tokens by 16 bytes: of one column for a sparse step or two dense ones, or,
  // where that takes too many registers, of two columns for one dense step.
  static constexpr bool kLoadsPairs = !kSparse && kColumns == 4;
  static constexpr bool kReadsAhead = kColumns < 4 || kSparse == (kCodeWords<C> >= 8);  // scales of groups, where registers are left

  using Sums = Sum[kTiles][kColumns][4];
  static constexpr bool kZeroPoints = has_zero_points(C);
  using Groups = GroupPlace[kZeroPoints ? kTiles : 1];  // of each tile

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

  /// `rows`: of a group, `row_stride` numbers apart.
  static __device__ __forceinline__ void read_group(Groups& groups, const uint16_t* rows, int row_stride, int lane) {
    if constexpr (kZeroPoints) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) groups[tile].read(rows + tile * kTileChannels + lane / 4, row_stride);
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

  /// Adds the products of a chunk. `groups`: with zero points, those of the step before.
  static __device__ __forceinline__ void multiply_chunk(const FewTokensLayout& layout, const Place& p, const unsigned char* stage,
                                                        Groups& groups, Sums& total, Sums& sums) {
    const unsigned char* scales = stage + layout.scale_offset + (p.block_of_band * kBlockChannels + p.first_tile * kTileChannels) * 2;
    // ldmatrix: lane 8 i + r gives row r of matrix i, the i-th of four units of a row
    const int row = p.lane % 8 + (kLoadsPairs ? p.lane / 16 * 8 : 0), unit = kLoadsPairs ? p.lane / 8 % 2 : p.lane / 8;
    const unsigned char* x_row = stage + layout.x_offset + row * kRowBytes;
#pragma unroll (kTokens <= 16 ? kSlices : 1)
    for (int slice = 0; slice < kSlices; ++slice) {
      const unsigned char* tiles = stage + p.block_of_band * kCodeBytes + (4 * slice + p.first_tile) * kTileBytes;
      uint2 metadata[kTiles] = {};
      if constexpr (kSparse) {
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          metadata[tile] = reinterpret_cast<const uint2*>(stage + layout.metadata_offset + p.block_of_band * kMetadataBytes +
                                                          (p.first_tile + tile) * kMetadataBytesPerTile)[p.lane];
        }
      }
      uint32_t words[kTiles][kCodeWords<C>];
      uint32_t b[kLoadsPairs ? kColumns / 2 : kColumns][4];
      const uint32_t ends = layout.group_ends >> (slice * kSteps);  // of this slice in the low kSteps bits
      GroupScales scale;
      if constexpr (kIs16Bit<A> && !kZeroPoints) {
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
        if constexpr (kZeroPoints && kStep % kGroupSteps == 0) {
          if (ends >> kStep & 1) {
            read_group(groups, reinterpret_cast<const uint16_t*>(scales), layout.group_bytes / 2, p.lane);
            scales += Ring::kGroupRows * layout.group_bytes;
          }
        }
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          read_step<kStep>(words[tile], tiles + tile * kTileBytes, p.lane);
          uint32_t a[4];
          Dequantizer<C, A>::template fragment<kStep>(words[tile], a);
          if constexpr (kZeroPoints) place_fragment<T>(a, groups[tile]);
#pragma unroll
          for (int column = 0; column < kColumns; column += 2) {
            multiply<kStep, kLoadsPairs ? 0 : kStep>(sums[tile][column], a, b[kLoadsPairs ? column / 2 : column], metadata[tile]);
            if constexpr (kColumns > 1) {
              multiply<kStep, kLoadsPairs ? 1 : kStep>(sums[tile][column + 1], a, b[kLoadsPairs ? column / 2 : column + 1], metadata[tile]);
            }
          }
        }
        if constexpr (kIs16Bit<A> && !kZeroPoints && (kStep + 1) % kGroupSteps == 0) {
          if (ends >> kStep & 1) {
            if (!kReadsAhead) read_group_scales(scale, scales, p.lane);
            add_group(total, sums, scale);
            scales += layout.group_bytes;
            if (kReadsAhead && ends >> (kStep + 1) & ((1u << (kSteps - 1 - kStep)) - 1)) read_group_scales(scale, scales, p.lane);
          }
        }
      };
      [&]<int... kStep>(std::integer_sequence<int, kStep...>) { (step.template operator()<kStep>(), ...); }(
          std::make_integer_sequence<int, kSteps>());
    }
  }
};

}  // namespace usmlite::cuda
