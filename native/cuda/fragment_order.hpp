// How a weight matrix lies in device memory: in the order in which the threads of a warp hold it for a tensor-core
// product, so that each of them reads its part with wide, adjacent loads and nothing is rearranged on the device.
//
// The weight (channels, inputs) is the left operand, yᵀ = W xᵀ. It is cut into *blocks* of 64 channels (what a warpgroup
// multiplies at once) and *slices* of inputs: 64 inputs when dense, 128 when 2:4 sparse, so that a slice always holds 64
// stored values per channel. Both are padded with zeros. A *tile* is 16 channels of one slice, 1,024 stored values, 32
// for each lane of a warp. Tiles are ordered (block, slice, four tiles of the block): one block streams contiguously.
//
// Lane l = 4 g + t of a tile holds, for 16-bit arithmetic, 4 steps of 16 stored columns, for 8-bit arithmetic 2 steps of
// 32. Value (step, r, i) of it, r the register 0..3 of the `a` fragment and i the place in the register, is
//   16-bit: channel g + 8 (r % 2), stored column 16 step + 2 t + i + 8 (r / 2),  i in 0..1
//    8-bit: channel g + 8 (r % 2), stored column 32 step + 4 t + i + 16 (r / 2), i in 0..3
// In bytes a tile is one or more *planes*, each 32 lanes times 4, 8 or 16 bytes. Which bits hold which value:
//
//   arithmetic, codes       planes        bit field of value (step, r, i)
//   16-bit, 16-bit floats   4 x 16 bytes  plane = step, word r, bits 16 i..
//   16-bit, int8            2 x 16 bytes  plane = step / 2, word 2 (step % 2) + r / 2, byte (r % 2) + 2 i; code + 128
//   16-bit, int4 or nf4     1 x 16 bytes  word step, bits 16 i + 4 r..; code + 8 (nf4: place of the level)
//   16-bit, int3            8, 4 bytes    low two bits of code + 4 as int2's, the high one as int1's
//   16-bit, int2, ternary   1 x 8 bytes   word step / 2, bits 16 i + 2 (r + 4 (step % 2))..; code + 2
//   16-bit, int1            1 x 4 bytes   bit 16 i + r + 4 step; 1 is +scale, 0 is -scale
//   16-bit, uint8/4/2       as int8, int4, int2; the code itself
//    8-bit, int8            2 x 16 bytes  plane = step, word r, byte i; two's complement
//    8-bit, int4            1 x 16 bytes  word 2 step + r / 2, nibble 2 i + r % 2 (bits 8 i + 4 (r % 2)..); two's complement
//    8-bit, e4m3            2 x 16 bytes  as 8-bit int8
//
// A 2:4 sparse weight also has metadata, 8 bytes per lane and tile: word s holds, in the layout of ptx_mma.cuh, for
//   16-bit: logical steps 2 s and 2 s + 1 (32 inputs each): lanes t < 2 the first (selector 0), t >= 2 the second (selector 1)
//    8-bit: logical step s (64 inputs)
// With fewer than two non-zero values in a group of four, zeros at the lowest free places fill it up.
//
// Where a pruned weight is no level of whole numbers, or has no zero point, the mask of kept ones lies beside the codes of 8-bit
// arithmetic, a word for each lane of a tile (slices are dense): bit 8 i + 4 step + r says that value (step, r, i) is kept.
//
// Scales per group of inputs (32, 64 or 128; logical inputs, so a 2:4 slice of 128 inputs may span several groups) are
// 16-bit floats in the order (block, group, 64 channels). Scales per output channel are float32 (channels padded to 64);
// with groups they are powers of two that keep float16 scales in range. In 8-bit arithmetic scales of groups are float32, in the same
// order, and so are zero points; a channel that has one alone has it there too.
//
// Codes with zero points (uint8, uint4, uint2) stand for channel scale * (step * (code - near) + rest), rounded once to 16 bits before the
// channel scale: near is the code that lies nearest to the zero point, so that the difference is exact and rest is small. These three
// 16-bit floats of a group, near with code_bias added, lie in the order (block, group, three rows of 64 channels) where others have a
// scale; without groups there is one group of all inputs.
#pragma once
#include <cstdint>

namespace usmlite::cuda {

enum class Codes : uint8_t { kFloat16Bit, kInt8, kInt4, kInt3, kInt2, kInt1, kNormalFloat4, kFloat8, kUint8, kUint4, kUint2 };
/// What the tensor cores multiply: bfloat16, float16, whole numbers of 8 bits, or e4m3 floats.
enum class Arithmetic : uint8_t { kBFloat16, kFloat16, kInt8, kFloat8 };

inline constexpr int kBlockChannels = 64;
inline constexpr int kTileChannels = 16;
inline constexpr int kStoredPerSlice = 64;
inline constexpr int kValuesPerLane = 32;
inline constexpr int kMetadataBytesPerTile = 32 * 8;
inline constexpr int kKeptBytesPerTile = 32 * 4;
/// In 8-bit arithmetic fragments hold so many times the codes of int4: they come into the high nibble (dequantize.cuh).
inline constexpr int kNibbleFactor = 16;

/// Group scales of a channel: groups begin within the inputs proper, without padding.
constexpr int group_count(int inputs, int group_size) { return group_size ? (inputs + group_size - 1) / group_size : 0; }

/// Whether codes have zero points: of whole numbers in 16-bit arithmetic.
constexpr bool has_zero_points(Codes codes) { return codes == Codes::kUint8 || codes == Codes::kUint4 || codes == Codes::kUint2; }
/// Rows of 64 numbers that a group has in a block.
constexpr int rows_per_group(Codes codes) { return has_zero_points(codes) ? 3 : 1; }
/// Of codes with zero points: what the kernels' bit operations (dequantize.cuh) make of a code is a float that is so much greater.
constexpr int code_bias(Codes codes, Arithmetic arithmetic) {
  return arithmetic == Arithmetic::kFloat16 ? 1024 : codes == Codes::kUint8 ? -128 : 128;
}

constexpr int slice_inputs(bool sparse) { return sparse ? 128 : 64; }

/// Bytes of codes of a tile.
constexpr int tile_bytes(Codes codes) {
  switch (codes) {
    case Codes::kFloat16Bit: return 2048;
    case Codes::kInt8: case Codes::kFloat8: case Codes::kUint8: return 1024;
    case Codes::kInt4: case Codes::kNormalFloat4: case Codes::kUint4: return 512;
    case Codes::kInt3: return 384;
    case Codes::kInt2: case Codes::kUint2: return 256;
    case Codes::kInt1: return 128;
  }
  return 0;
}

}  // namespace usmlite::cuda
