// Whole numbers are summed exactly within a group of inputs; its float32 scale then multiplies the sum and adds it to those of the groups
// before, in order, as native/cpu/reference/packed_matmul.cpp does. Zero points, and shifts of levels, belong to what is kept of the group:
// the activations there are summed once more, as products with ones on the tensor cores.
//
// It is the kernel for many tokens before Hopper (matmul_many_tokens_sm80.cuh) with three sums for each output, so in tiles of 64 by 64.
#include "cuda/matmul_grouped_int8.hpp"

#include "cuda/matmul_many_tokens_sm80.cuh"

namespace usmlite::cuda {

namespace {

using GroupedTile = TileSm80<2, 2, 2, 4, 2>;  // 64 channels by 64 tokens

template <Codes C_> struct GroupedInt8 : ManyTokensSm80<Arithmetic::kInt8, C_, false, GroupedTile> {
  using Base = ManyTokensSm80<Arithmetic::kInt8, C_, false, GroupedTile>;
  using Arguments = ManyTokensSm80Arguments;
  using Tile = GroupedTile;
  static constexpr int kTiles = Tile::WarpTiles, kColumns = Tile::Columns;
  static_assert(Base::kBlocks == 1 && Base::kChunkUnits == 1);
  using OfChannels = float[kTiles][2];  // g and g + 8 of each tile

  struct Sums {
    float total[kTiles][kColumns][4];
    int32_t codes[kTiles][kColumns][4], kept[kTiles][kColumns][4];  // of the group
    OfChannels scale, zero_point;                                    // of the group
    const float *scales, *zero_points;                               // of this lane's channels in group 0; the latter null without
    const uint32_t* mask;                                            // of this lane in slice 0
    int group, slice;
  };

  static __device__ __forceinline__ int groups(const WeightView& w) { return w.group_size ? (w.inputs + w.group_size - 1) / w.group_size : 1; }

  /// On their way while the group is multiplied. Inputs padded beyond the last group take its scales: their sums are zeros.
  static __device__ __forceinline__ void read_group(const Arguments& arguments, Sums& d) {
    const int64_t at = static_cast<int64_t>(min(d.group, groups(arguments.matmul.weight) - 1)) * kBlockChannels;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        d.scale[tile][half] = d.scales[at + tile * kTileChannels + 8 * half];
        if (d.zero_points) d.zero_point[tile][half] = d.zero_points[at + tile * kTileChannels + 8 * half];
      }
    }
  }

  static __device__ __forceinline__ void begin(const Arguments& arguments, int first_tile, int lane, Sums& d) {
    const WeightView& w = arguments.matmul.weight;
    const int block = first_tile / 4, tile = first_tile % 4;
    const int64_t channel = static_cast<int64_t>(block) * groups(w) * kBlockChannels + tile * kTileChannels + lane / 4;
    d.scales = w.whole_scales + channel;
    d.zero_points = w.zero_points ? w.zero_points + channel : nullptr;
    d.mask = w.kept ? w.kept + (static_cast<int64_t>(block) * w.slices * 4 + tile) * 32 + lane : nullptr;
    read_group(arguments, d);
  }

  static __device__ __forceinline__ void end_group(const Arguments& arguments, Sums& d) {
    const WeightView& w = arguments.matmul.weight;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int column = 0; column < kColumns; ++column) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float whole = static_cast<float>(d.codes[tile][column][i]);
          if (w.level_shift) {
            // Where all weights are kept, what they are multiplied by adds up to the same in every tile.
            const int32_t kept = d.mask ? d.kept[tile][column][i] : d.kept[0][column][i];
            whole = static_cast<float>(w.level_step * d.codes[tile][column][i] + w.level_shift * kept);
            if (d.zero_points) whole = fmaf(-d.zero_point[tile][i / 2], static_cast<float>(kept), whole);
          }
          d.total[tile][column][i] = fmaf(whole, d.scale[tile][i / 2], d.total[tile][column][i]);
          d.codes[tile][column][i] = 0;
        }
      }
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int column = 0; column < kColumns; ++column) {
#pragma unroll
        for (int i = 0; i < 4; ++i) d.kept[tile][column][i] = 0;
      }
    }
    ++d.group;
    read_group(arguments, d);
  }

  /// Bits of the kept weights of a tile: fragment_order.hpp.
  static __device__ __forceinline__ uint32_t mask_of(const WeightView& w, const Sums& d, int slice, int tile) {
    if (!d.mask) return 0xffffffffu;
    return slice < w.slices ? d.mask[(static_cast<int64_t>(slice) * 4 + tile) * 32] : 0;
  }

  template <int kUnit>
  static __device__ __forceinline__ void multiply_unit(const Arguments& arguments, const unsigned char* x, const unsigned char* tiles,
                                                       const unsigned char*, const unsigned char*, int lane, Sums& d) {
    const WeightView& w = arguments.matmul.weight;
    // Of inputs in a group, in steps: none ends within the product where there is one scale.
    const int group_mask = w.group_size ? w.group_size / Base::kStepInputs - 1 : -1;
    uint32_t words[kTiles][kCodeWords<C_>], masks[kTiles];
    const auto step = [&]<int kStep>() {
      using K = GroupedInt8;
      constexpr int kOfTile = kStep % K::kTileSteps, kSlice = kStep / K::kTileSteps;
      TokenFragments<typename K::Tile, false> b;
      b.template load<kStep>(x, lane);
#pragma unroll
      for (int tile = 0; tile < K::kTiles; ++tile) {
        K::template read_step<kOfTile, kStep == 0>(words[tile], tiles + (4 * kSlice + tile) * K::kTileBytes, lane);
        uint32_t a[4];
        Dequantizer<K::C, K::A>::template fragment<kOfTile>(words[tile], a);
#pragma unroll
        for (int column = 0; column < K::kColumns; ++column) {
          K::template multiply<kOfTile>(d.codes[tile][column], a, b.registers[column / 2], column % 2, {});
        }
        if (w.level_shift && (tile == 0 || d.mask)) {
          if constexpr (kOfTile == 0) masks[tile] = K::mask_of(w, d, d.slice + kSlice, tile);
#pragma unroll
          for (int r = 0; r < 4; ++r) a[r] = masks[tile] >> (4 * kOfTile + r) & 0x01010101u;
#pragma unroll
          for (int column = 0; column < K::kColumns; ++column) {
            K::template multiply<kOfTile>(d.kept[tile][column], a, b.registers[column / 2], column % 2, {});
          }
        }
      }
      if (((kStep + 1) & group_mask) == 0) K::end_group(arguments, d);
    };
    [&]<int... kStep>(std::integer_sequence<int, kStep...>) { (step.template operator()<kStep>(), ...); }(
        std::make_integer_sequence<int, Base::kUnitSteps>());
    d.slice += Base::kChunkSlices;
  }

  static __device__ __forceinline__ const float (&result(const Arguments& arguments, Sums& d))[kTiles][kColumns][4] {
    if (!arguments.matmul.weight.group_size) end_group(arguments, d);
    return d.total;
  }
};

}  // namespace

void matmul_grouped_int8(const MatmulArguments& arguments, StreamHandle stream) {
  if (arguments.weight.codes == Codes::kInt4) launch_many_tokens_sm80<GroupedInt8<Codes::kInt4>>(arguments, stream);
  else launch_many_tokens_sm80<GroupedInt8<Codes::kInt8>>(arguments, stream);
}

}  // namespace usmlite::cuda
