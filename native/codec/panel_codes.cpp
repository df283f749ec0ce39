#include "codec/panel_codes.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace usmlite::codec {
namespace {

constexpr int64_t kUnit = 64;        // codes
constexpr int64_t kUnits = 4;        // of a window, and of a gathered block
constexpr int64_t kGatherGroup = 4;  // inputs among which a place of two bits chooses

int64_t bits_of(PackedOrder order) {
  switch (order) {
    case PackedOrder::kDense1: return 1;
    case PackedOrder::kDense2: return 2;
    case PackedOrder::kDense4:
    case PackedOrder::kGather4: return 4;
    default: return 8;
  }
}

// Where gathered blocks keep a code, and its place among its four inputs.
struct GatheredPlace {
  int64_t code_byte, place_byte;
  int code_shift, place_shift;
};

GatheredPlace gathered_place(PackedOrder order, int64_t unit, int64_t place) {
  const int64_t in_block = unit % kUnits;
  const int place_shift = static_cast<int>(2 * in_block);
  if (order == PackedOrder::kGather4) {
    const int64_t block = unit / kUnits * 3 * kUnit;
    return {block + in_block / 2 * kUnit + place, block + 2 * kUnit + place, static_cast<int>(in_block % 2 * 4), place_shift};
  }
  const int64_t block = unit / kUnits * 5 * kUnit;
  return {block + in_block * kUnit + place, block + 4 * kUnit + place, 0, place_shift};
}

template <int kBits>
void compress_units(const uint8_t* units, int64_t unit_count, uint8_t* blocks) {
  constexpr int64_t kPerByte = 8 / kBits;  // units that share 64 bytes
  constexpr uint8_t kMask = (1 << kBits) - 1;
  for (int64_t unit = 0; unit < unit_count; unit += kPerByte, blocks += kUnit, units += kPerByte * kUnit) {
    for (int64_t i = 0; i < kUnit; ++i) {
      uint8_t byte = 0;
      for (int64_t part = 0; part < kPerByte; ++part) byte |= static_cast<uint8_t>((units[part * kUnit + i] & kMask) << (part * kBits));
      blocks[i] = byte;
    }
  }
}

}  // namespace

void compress_dense(PackedOrder order, const uint8_t* units, int64_t unit_count, uint8_t* blocks) {
  switch (order) {
    case PackedOrder::kDense1: return compress_units<1>(units, unit_count, blocks);
    case PackedOrder::kDense2: return compress_units<2>(units, unit_count, blocks);
    case PackedOrder::kDense4: return compress_units<4>(units, unit_count, blocks);
    default: return compress_units<8>(units, unit_count, blocks);
  }
}

void compress_gathered(PackedOrder order, const uint8_t* codes, const uint8_t* places, uint8_t* block) {
  const bool nibbles = order == PackedOrder::kGather4;
  if (nibbles) compress_units<4>(codes, kUnits, block);
  else compress_units<8>(codes, kUnits, block);
  compress_units<2>(places, kUnits, block + (nibbles ? 2 : 4) * kUnit);
}

void clear_gathered(const Arrangement& arrangement, uint8_t nothing, int64_t bytes, uint8_t* blocks) {
  const int64_t block = arrangement.block_bytes();
  std::fill_n(blocks, bytes, nothing);
  for (int64_t end = block; end <= bytes; end += block) std::fill_n(blocks + end - kUnit, kUnit, uint8_t{255});
}

void write_gathered(const Arrangement& arrangement, int64_t channel, const uint8_t* codes, const uint8_t* mask,
                    int64_t windows, uint8_t* blocks) {
  // A unit has four codes per channel: two from each of two groups when a window has two units, one from each of four.
  const int64_t per_group = arrangement.units, groups_per_unit = 4 / per_group;
  const uint32_t code_mask = arrangement.order == PackedOrder::kGather4 ? 15 : 255;
  for (int64_t group = 0; group < windows * kUnits; ++group) {
    uint32_t kept;
    std::memcpy(&kept, mask + group * kGatherGroup, 4);
    kept = kept * 0x01020408u >> 24 & 15;  // the four bytes, each 0 or 1, as four bits
    int64_t place = channel * 4 + group % groups_per_unit * per_group;
    // Over the bits that are set, whose number is nearly always the same, rather than over inputs, half of them unforeseen.
    for (; kept; kept &= kept - 1) {
      const int i = std::countr_zero(kept);
      const GatheredPlace to = gathered_place(arrangement.order, group / groups_per_unit, place++);
      const uint32_t code = codes[group * kGatherGroup + i];
      uint8_t& byte = blocks[to.code_byte];
      byte = static_cast<uint8_t>((byte & ~(code_mask << to.code_shift)) | code << to.code_shift);
      uint8_t& places = blocks[to.place_byte];
      places = static_cast<uint8_t>((places & ~(3u << to.place_shift)) | static_cast<uint32_t>(i) << to.place_shift);
    }
  }
}

uint32_t code_at(const Arrangement& arrangement, const uint8_t* blocks, int64_t unit, int64_t place) {
  const PackedOrder order = arrangement.order;
  if (is_gather(order)) {
    const GatheredPlace from = gathered_place(order, unit, place);
    return order == PackedOrder::kGather4 ? blocks[from.code_byte] >> from.code_shift & 15 : blocks[from.code_byte];
  }
  const int64_t bits = bits_of(order);
  const int64_t per_byte = 8 / bits;
  return blocks[unit / per_byte * kUnit + place] >> (unit % per_byte * bits) & ((1 << bits) - 1);
}

int64_t input_at(const Arrangement& arrangement, const uint8_t* blocks, int64_t unit, int64_t place) {
  if (is_dense(arrangement.order)) return unit * 4 + place % 4;
  const GatheredPlace from = gathered_place(arrangement.order, unit, place);
  const int64_t group = unit * (4 / arrangement.units) + place % 4 / arrangement.units;
  return group * kGatherGroup + (blocks[from.place_byte] >> from.place_shift & 3);
}

}  // namespace usmlite::codec
