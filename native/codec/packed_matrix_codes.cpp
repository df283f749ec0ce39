// Panels straight from stored codes: those of dense weights, and of N:4 ones, lie in a file in the order in which a channel's
// units want them. Bytes all the way, so that compilers make vector instructions of it. Other weights go by their levels.
#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <vector>

#include "codec/packed_matrix.hpp"
#include "codec/panel_codes.hpp"

namespace usmlite::codec {
namespace {

constexpr int64_t kGroup = 4;        // inputs of an N:4 group
constexpr int64_t kUnitCodes = 4;    // of a channel in a unit
constexpr uint8_t kUnusedPlace = 3;  // beyond the row, or with a code that is zero

// By mask of a group: where its first and second weight are.
constexpr auto kPlaces = [] {
  std::array<std::array<uint8_t, 2>, 16> places{};
  for (uint8_t mask = 0; mask < 16; ++mask) {
    places[mask] = {kUnusedPlace, kUnusedPlace};
    size_t next = 0;
    for (uint8_t place = 0; place < 4; ++place) {
      if (mask >> place & 1 && next < 2) places[mask][next++] = place;
    }
  }
  return places;
}();

// Bytes of each channel of a panel, rows a little more than a power of two apart: 16 at such a distance share a set of the cache.
class ChannelBytes {
 public:
  explicit ChannelBytes(int64_t length) : stride_(length + 64), bytes_(static_cast<size_t>(PackedMatrix::kChannels * stride_)) {}
  uint8_t* operator[](int64_t channel) { return bytes_.data() + channel * stride_; }
  // Units [first, first + count) of all channels, (count, 16 channels, 4).
  void units(int64_t first, int64_t count, uint8_t* to) const {
    for (int64_t channel = 0; channel < PackedMatrix::kChannels; ++channel) {
      const uint8_t* from = bytes_.data() + channel * stride_ + first * kUnitCodes;
      for (int64_t unit = 0; unit < count; ++unit) {
        std::memcpy(to + unit * PackedMatrix::kUnitBytes + channel * kUnitCodes, from + unit * kUnitCodes, kUnitCodes);
      }
    }
  }

 private:
  int64_t stride_;
  std::vector<uint8_t> bytes_;
};

}  // namespace

bool PackedMatrix::lies_as_stored() const {
  return (is_dense(order()) && !spec_.is_sparse()) || (is_gather(order()) && spec_.of == kGroup);
}

int64_t PackedMatrix::level_sum(const uint8_t* raw, int64_t count) const {
  if (spec_.format == NumberFormat::kNormalFloat4) {
    return std::accumulate(raw, raw + count, int64_t{0}, [](int64_t sum, uint8_t code) { return sum + kNormalFloat4Levels[code]; });
  }
  int32_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += raw[i];
  return int64_t{sum} * (spec_.level(1) - spec_.level(0)) + count * spec_.level(0);
}

PackedMatrix::GatherCode PackedMatrix::gather_code() const {
  const bool nibble = order() == PackedOrder::kGather4;
  if (spec_.format == NumberFormat::kNormalFloat4) return {1, 0};
  if (spec_.has_zero_points()) return {1, first_level_};
  if (spec_.format == NumberFormat::kMidRise && !nibble && !arrangement_.sums_kept) return {2, spec_.highest_level()};
  return {1, spec_.format == NumberFormat::kTernary ? 1 : 1 << (spec_.bits - 1)};
}

// The first `whole` codes of a row belong to groups within it; `rest`: of the last group, those within the row.
void PackedMatrix::take_stored_sums(int64_t row, const uint8_t* raw, int64_t whole, int64_t rest_levels, int64_t rest_count) {
  const int64_t per_window = spec_.is_sparse() ? kWindow / kGroup * spec_.kept : kWindow;
  float sum = 0.0f;
  for (int64_t group = 0; group < scale_groups_; ++group) {
    const int64_t begin = group * windows_per_scale_ * per_window, end = std::min(begin + windows_per_scale_ * per_window, whole);
    const bool last = group + 1 == scale_groups_;
    const int64_t levels = level_sum(raw + begin, end - begin) + (last ? rest_levels : 0);
    put_sums(row, group, static_cast<int32_t>(levels), static_cast<int32_t>(end - begin + (last ? rest_count : 0)), sum);
  }
  sums_.f32()[row] = sum;
}

void PackedMatrix::take_stored_panel(const Unpacker& source, int64_t panel) {
  const int64_t first = panel * kChannels, channels = std::min(kChannels, rows_ - first);
  const int64_t units = windows_ * arrangement_.units, stored = spec_.codes_per_row(columns_);
  const bool gathered = is_gather(order()), nf4 = spec_.format == NumberFormat::kNormalFloat4;
  const auto [step, zero] = gather_code();
  // Of unused places.
  const uint8_t nothing = gathered && nf4 ? 7 : 0;
  ChannelBytes codes(units * kUnitCodes), places(gathered ? units * kUnitCodes : 0);
  for (int64_t channel = 0; channel < channels; ++channel) {
    uint8_t* const raw = codes[channel];
    source.read_codes(first + channel, raw);
    std::fill(raw + stored, raw + units * kUnitCodes, nothing);
    if (!gathered) {
      take_stored_sums(first + channel, raw, stored, 0, 0);
      continue;
    }
    take_places(source, first + channel, raw, places[channel]);
    for (int64_t i = 0; i < stored; ++i) raw[i] = static_cast<uint8_t>(raw[i] * step - zero);
    drop_beyond_row(raw, places[channel], nothing);
  }
  for (int64_t channel = channels; channel < kChannels; ++channel) {
    std::fill_n(codes[channel], units * kUnitCodes, nothing);
    if (gathered) std::fill_n(places[channel], units * kUnitCodes, kUnusedPlace);
  }
  uint8_t* blocks = codes_.data<uint8_t>() + panel * panel_bytes_;
  const int64_t per_block = gathered ? 4 : arrangement_.block_windows() * 4;  // units
  uint8_t block_codes[8 * kUnitBytes], block_places[4 * kUnitBytes];
  for (int64_t unit = 0; unit < units; unit += per_block, blocks += arrangement_.block_bytes()) {
    codes.units(unit, per_block, block_codes);
    if (!gathered) {
      compress_dense(order(), block_codes, per_block, blocks);
      continue;
    }
    places.units(unit, per_block, block_places);
    compress_gathered(order(), block_codes, block_places, blocks);
  }
}

// The places of the codes of a row of an N:4 matrix, and its sums.
void PackedMatrix::take_places(const Unpacker& source, int64_t row, const uint8_t* raw, uint8_t* places) {
  const int64_t whole_groups = columns_ / kGroup, kept = spec_.kept;
  std::fill(places + spec_.codes_per_row(columns_), places + windows_ * arrangement_.units * kUnitCodes, kUnusedPlace);
  const auto read = [&](auto take) {
    source.read_masks(row, [&](int64_t group, uint32_t mask) { take(group, kPlaces[mask]); });
  };
  if (kept == 2) read([&](int64_t group, const auto& of_mask) { std::memcpy(places + group * 2, of_mask.data(), 2); });
  else read([&](int64_t group, const auto& of_mask) { places[group] = of_mask[0]; });
  int64_t rest_levels = 0, rest_count = 0;  // of the group that reaches beyond the row
  for (int64_t i = whole_groups * kept; i < spec_.codes_per_row(columns_); ++i) {
    if (places[i] < columns_ % kGroup) rest_levels += spec_.level(raw[i]), ++rest_count;
    else if (spec_.has_zero() && spec_.level(raw[i]) != 0) source.fail_beyond_row(row);
  }
  take_stored_sums(row, raw, whole_groups * kept, rest_levels, rest_count);
}

// Codes whose inputs lie beyond the row become unused.
void PackedMatrix::drop_beyond_row(uint8_t* codes, uint8_t* places, uint8_t nothing) const {
  for (int64_t i = columns_ / kGroup * spec_.kept; i < spec_.codes_per_row(columns_); ++i) {
    if (places[i] < columns_ % kGroup) continue;
    codes[i] = nothing;
    places[i] = kUnusedPlace;
  }
}

}  // namespace usmlite::codec
