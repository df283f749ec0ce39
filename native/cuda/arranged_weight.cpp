#include "cuda/arranged_weight.hpp"

#include <algorithm>
#include <bit>
#include <string>

#include "core/thread_pool.hpp"
#include "cuda/channel_coder.hpp"
#include "cuda/narrow_float.hpp"

namespace usmlite::cuda {
namespace {

constexpr int kLanes = 32;
constexpr int kGroupOfFour = 4;
constexpr int kLargestExtent = 1 << 20;

/// A place for some bits of a value: `width` bytes of a plane belong to each lane, `bit` is counted in them.
struct Field {
  int plane_begin;
  int width;
  int bit;
};

void put(uint8_t* tile, int lane, const Field& field, uint32_t bits) {
  uint8_t* bytes = tile + field.plane_begin + lane * field.width + field.bit / 8;
  bits <<= field.bit % 8;
  for (; bits; bits >>= 8, ++bytes) *bytes |= static_cast<uint8_t>(bits);
}

Field two_bit_field(int step, int r, int i) { return {0, 8, 32 * (step / 2) + 16 * i + 2 * (r + 4 * (step % 2))}; }
Field one_bit_field(int step, int r, int i) { return {0, 4, 16 * i + r + 4 * step}; }

/// Writes the `raw` bits of value (step, r, i) of a lane.
void put_value(uint8_t* tile, Codes codes, bool wide, int lane, int step, int r, int i, uint32_t raw) {
  if (!wide) {  // 8-bit arithmetic
    if (codes == Codes::kInt4) put(tile, lane, {0, 16, 32 * (2 * step + r / 2) + 8 * i + 4 * (r % 2)}, raw & 15);
    else put(tile, lane, {512 * step, 16, 32 * r + 8 * i}, raw & 255);
    return;
  }
  switch (codes) {
    case Codes::kFloat16Bit: put(tile, lane, {512 * step, 16, 32 * r + 16 * i}, raw); break;
    case Codes::kInt8: case Codes::kUint8:
      put(tile, lane, {512 * (step / 2), 16, 32 * (2 * (step % 2) + r / 2) + 8 * (r % 2 + 2 * i)}, raw);
      break;
    case Codes::kInt4: case Codes::kNormalFloat4: case Codes::kUint4: put(tile, lane, {0, 16, 32 * step + 16 * i + 4 * r}, raw); break;
    case Codes::kInt3: {
      put(tile, lane, two_bit_field(step, r, i), raw & 3);
      Field high = one_bit_field(step, r, i);
      high.plane_begin = tile_bytes(Codes::kInt2);
      put(tile, lane, high, raw >> 2);
      break;
    }
    case Codes::kInt2: case Codes::kUint2: put(tile, lane, two_bit_field(step, r, i), raw); break;
    case Codes::kInt1: put(tile, lane, one_bit_field(step, r, i), raw); break;
    case Codes::kFloat8: break;  // never with 16-bit arithmetic
  }
}

/// The bits that stand for a code of ChannelCoder, before they are placed.
uint32_t raw_bits(Codes codes, Arithmetic arithmetic, int32_t code) {
  switch (codes) {
    case Codes::kFloat16Bit: {
      const float value = std::bit_cast<float>(code);
      return arithmetic == Arithmetic::kBFloat16 ? to_bfloat16(value) : to_float16(value);
    }
    case Codes::kFloat8: return to_float8(std::bit_cast<float>(code));
    case Codes::kInt8: return static_cast<uint32_t>(is_16_bit(arithmetic) ? code + 128 : code);
    case Codes::kInt4: return static_cast<uint32_t>(is_16_bit(arithmetic) ? code + 8 : code);
    case Codes::kInt3: return static_cast<uint32_t>(code + 4);
    case Codes::kInt2: return static_cast<uint32_t>(code + 2);
    case Codes::kInt1: return code > 0 ? 1u : 0u;
    case Codes::kUint8: case Codes::kUint4: case Codes::kUint2: return static_cast<uint32_t>(code);
    case Codes::kNormalFloat4: {
      const auto& levels = codec::kNormalFloat4Levels;
      return static_cast<uint32_t>(std::lower_bound(levels.begin(), levels.end(), code) - levels.begin());
    }
  }
  return 0;
}

/// The codes of one block of 64 channels, as the tensor cores store them: (64, 64 slices) values and, when sparse, the
/// place 0..3 of each among its four inputs; where kept weights are told, whether each is.
struct StoredBlock {
  std::vector<int32_t> values;
  std::vector<uint8_t> places;
  std::vector<uint8_t> kept;
};

// A kept value and the place of each of the two in a group of four; zeros take the lowest free places. `is_kept` may be null: what is
// not zero.
void compress_four(const int32_t* codes, const uint8_t* is_kept, int32_t* values, uint8_t* places) {
  uint32_t kept = 0;
  for (int i = 0; i < kGroupOfFour; ++i) kept |= ((is_kept ? is_kept[i] != 0 : codes[i] != 0) ? 1u : 0u) << i;
  while (std::popcount(kept) < 2) kept |= kept + 1;  // sets the lowest clear bit
  for (int k = 0; k < 2; ++k, kept &= kept - 1) {
    places[k] = static_cast<uint8_t>(std::countr_zero(kept));
    values[k] = codes[places[k]];
  }
}

/// `kept`: of the tile, a word for each lane; may be null.
void write_tile(const WeightView& view, const StoredBlock& block, int slice, int tile_of_block, uint8_t* tile, uint32_t* kept) {
  const bool wide = is_16_bit(view.arithmetic);
  const int steps = wide ? 4 : 2, per_register = wide ? 2 : 4;
  const size_t row = static_cast<size_t>(view.slices) * kStoredPerSlice;
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int step = 0; step < steps; ++step) {
      for (int r = 0; r < 4; ++r) {
        const int channel = tile_of_block * kTileChannels + g + 8 * (r % 2);
        for (int i = 0; i < per_register; ++i) {
          const int column = wide ? 16 * step + 2 * t + i + 8 * (r / 2) : 32 * step + 4 * t + i + 16 * (r / 2);
          const size_t at = static_cast<size_t>(channel) * row + static_cast<size_t>(slice) * kStoredPerSlice + static_cast<size_t>(column);
          put_value(tile, view.codes, wide, lane, step, r, i, raw_bits(view.codes, view.arithmetic, block.values[at]));
          if (kept) kept[lane] |= static_cast<uint32_t>(block.kept[at]) << (8 * i + 4 * step + r);
        }
      }
    }
  }
}

/// Four bits per group of four inputs, the lower place in the low bits, of `groups` groups from stored column `first` on.
uint32_t places_bits(const uint8_t* places, int first, int groups) {
  uint32_t bits = 0;
  for (int group = 0; group < groups; ++group) {
    const uint8_t* pair = places + first + 2 * group;
    bits |= static_cast<uint32_t>(pair[0] | pair[1] << 2) << (4 * group);
  }
  return bits;
}

void write_metadata(const WeightView& view, const StoredBlock& block, int slice, int tile_of_block, uint8_t* metadata) {
  const size_t row = static_cast<size_t>(view.slices) * kStoredPerSlice;
  const auto places_of = [&](int channel) {
    return block.places.data() + static_cast<size_t>(tile_of_block * kTileChannels + channel) * row +
           static_cast<size_t>(slice) * kStoredPerSlice;
  };
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int s = 0; s < 2; ++s) {
      uint32_t word;
      if (is_16_bit(view.arithmetic)) {
        // A logical step is 32 inputs, 16 stored columns; lanes t % 2 have its halves, 8 stored columns each.
        const int first = 16 * (2 * s + t / 2) + 8 * (t % 2);
        word = places_bits(places_of(g), first, 4) | places_bits(places_of(g + 8), first, 4) << 16;
      } else {
        // A logical step is 64 inputs, 32 stored columns.
        word = places_bits(places_of(g + 8 * (t % 2)), 32 * s + 16 * (t / 2), 8);
      }
      for (int byte = 0; byte < 4; ++byte) metadata[lane * 8 + 4 * s + byte] = static_cast<uint8_t>(word >> (8 * byte));
    }
  }
}

}  // namespace

int64_t arranged_channel(ChannelOrder order, int64_t rows, int64_t row) {
  if (order == ChannelOrder::kPlain) return row;
  const int64_t half = rows / 2, unit = row < half ? row : row - half;
  return unit / 8 * kTileChannels + unit % 8 + (row < half ? 0 : 8);
}

ArrangedWeight arrange_weight(const codec::Unpacker& source, Arithmetic arithmetic, ChannelOrder order) {
  const codec::WeightSpec& spec = source.layout().spec;
  const int64_t rows = source.layout().rows, inputs = source.layout().columns;
  const KernelForm form = kernel_form(spec, arithmetic);
  if (rows < 1 || inputs < 1 || rows > kLargestExtent || inputs > kLargestExtent) {
    unsupported_on_gpu(spec, "a weight has 1 to " + std::to_string(kLargestExtent) + " rows and columns, not (" + std::to_string(rows) +
                             ", " + std::to_string(inputs) + ")");
  }
  if (order == ChannelOrder::kGlu && rows % 2 != 0) {
    unsupported_on_gpu(spec, "a gated layer has as many gates as values, so an even number of rows, not " + std::to_string(rows));
  }
  const int64_t channels = order == ChannelOrder::kGlu ? (rows / 2 + 7) / 8 * kTileChannels : rows;  // with gaps
  ArrangedWeight weight{};
  weight.order = order;
  WeightView& view = weight.view;
  view.codes = form.codes;
  view.arithmetic = arithmetic;
  view.sparse = form.sparse;
  view.channels = static_cast<int>(rows);
  view.inputs = static_cast<int>(inputs);
  view.blocks = static_cast<int>((channels + kBlockChannels - 1) / kBlockChannels);
  view.slices = static_cast<int>((inputs + slice_inputs(view.sparse) - 1) / slice_inputs(view.sparse));
  view.group_size = form.widened ? 0 : static_cast<int>(spec.group_size);

  const size_t padded_channels = static_cast<size_t>(view.blocks) * kBlockChannels;
  const size_t padded_inputs = static_cast<size_t>(view.slices) * slice_inputs(view.sparse);
  const size_t tiles = static_cast<size_t>(view.blocks) * view.slices * 4;
  weight.tiles.assign(tiles * tile_bytes(form.codes), 0);
  if (view.sparse) weight.metadata.assign(tiles * kMetadataBytesPerTile, 0);
  const ChannelCoder coder(source, form, weight);
  const bool stores_kept = form.grouped_int8 && coder.tells_kept();
  if (stores_kept) weight.kept.assign(tiles * kLanes, 0);

  std::vector<int64_t> row_of(padded_channels, -1);
  for (int64_t row = 0; row < rows; ++row) row_of[static_cast<size_t>(arranged_channel(order, rows, row))] = row;

  parallel_for(view.blocks, 1, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> logical(padded_inputs);
    std::vector<uint8_t> kept(padded_inputs);
    const size_t stored_row = static_cast<size_t>(view.slices) * kStoredPerSlice;
    StoredBlock block;
    block.values.resize(kBlockChannels * stored_row);
    block.places.resize(view.sparse ? block.values.size() : 0);
    block.kept.resize(stores_kept ? block.values.size() : 0);
    for (int64_t b = begin; b < end; ++b) {
      for (int channel = 0; channel < kBlockChannels; ++channel) {
        const int64_t arranged = b * kBlockChannels + channel, row = row_of[static_cast<size_t>(arranged)];
        std::fill(logical.begin(), logical.end(), 0);
        std::fill(kept.begin(), kept.end(), uint8_t{0});
        if (row >= 0) coder.code_row(row, arranged, logical.data(), kept.data());
        if (stores_kept) std::copy(kept.begin(), kept.end(), block.kept.begin() + channel * static_cast<int64_t>(stored_row));
        int32_t* values = block.values.data() + static_cast<size_t>(channel) * stored_row;
        if (!view.sparse) {
          std::copy(logical.begin(), logical.end(), values);
        } else {
          uint8_t* places = block.places.data() + static_cast<size_t>(channel) * stored_row;
          for (size_t group = 0; group < padded_inputs / kGroupOfFour; ++group) {
            const size_t at = group * kGroupOfFour;
            compress_four(logical.data() + at, has_zero_points(form.codes) ? kept.data() + at : nullptr, values + 2 * group, places + 2 * group);
          }
        }
      }
      for (int slice = 0; slice < view.slices; ++slice) {
        for (int tile = 0; tile < 4; ++tile) {
          const size_t index = (static_cast<size_t>(b) * view.slices + slice) * 4 + tile;
          write_tile(view, block, slice, tile, weight.tiles.data() + index * tile_bytes(form.codes),
                     stores_kept ? weight.kept.data() + index * kLanes : nullptr);
          if (view.sparse) write_metadata(view, block, slice, tile, weight.metadata.data() + index * kMetadataBytesPerTile);
        }
      }
    }
  });
  return weight;
}

}  // namespace usmlite::cuda
