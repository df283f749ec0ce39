#include "codec/packed_matrix.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "codec/panel_codes.hpp"
#include "codec/quantize.hpp"
#include "core/divide_up.hpp"
#include "core/error.hpp"
#include "core/thread_pool.hpp"

namespace usmlite::codec {
namespace {

constexpr int64_t kDenseUnits = 4;  // of a dense window
constexpr int32_t kActivationOffset = 128;

Tensor zeros(DType dtype, int64_t count) {
  Tensor tensor(dtype, {count});
  std::memset(tensor.data<char>(), 0, tensor.bytes());
  return tensor;
}

// One panel while it is rearranged.
struct PanelScratch {
  explicit PanelScratch(const PackedMatrix& matrix)
      : inputs(std::max(matrix.windows() * PackedMatrix::kWindow, matrix.columns())), levels(static_cast<size_t>(inputs)),
        mask(static_cast<size_t>(inputs)), codes(static_cast<size_t>(inputs)),
        units(static_cast<size_t>(is_dense(matrix.order()) ? inputs * PackedMatrix::kChannels : 0)) {}

  int64_t inputs;  // up to the end of the last window
  std::vector<int32_t> levels;
  std::vector<uint8_t> mask, codes, units;
};

}  // namespace

PackedMatrix::PackedMatrix(const WeightRows& source)
    : spec_(source.spec()), rows_(source.rows()), columns_(source.columns()),
      arrangement_(arrangement_of(spec_)) {
  if (columns_ > kMaximumColumns) {
    throw Error(error_code::kInvalidArgument, "the weight has " + std::to_string(columns_) +
                                                  " inputs; packed products take at most " +
                                                  std::to_string(kMaximumColumns));
  }
  const int64_t block = arrangement_.block_windows();
  windows_ = divide_up(divide_up(columns_, kWindow), block) * block;
  windows_per_scale_ = spec_.group_size ? spec_.group_size / kWindow : windows_;
  scale_groups_ = divide_up(divide_up(columns_, kWindow), std::max<int64_t>(windows_per_scale_, 1));
  panel_bytes_ = windows_ / block * arrangement_.block_bytes();
  const bool looked_up = spec_.format == NumberFormat::kNormalFloat4;
  if (arrangement_.sums_kept) set_gathered_levels();
  else if (arrangement_.biased) first_level_ = -128;
  else if (looked_up) first_level_ = spec_.lowest_level();
  else first_level_ = spec_.level(0), level_step_ = spec_.level(1) - spec_.level(0);

  if (order() == PackedOrder::kFloat) codes_ = Tensor(DType::kFloat32, {divide_up(rows_, kFloatChannels) * kFloatChannels * columns_});
  else if (order() == PackedOrder::kRows) codes_ = Tensor(DType::kUint8, {rows_ * columns_ * int64_t{sizeof(int16_t)}});
  else codes_ = Tensor(DType::kUint8, {panels() * panel_bytes_});
  if (spec_.is_integer()) take_scales(source);
  if (columns_ == 0) return;  // nothing to arrange, in memory that is not there
  const auto* stored = lies_as_stored() ? dynamic_cast<const Unpacker*>(&source) : nullptr;
  parallel_for(panels(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      if (order() == PackedOrder::kFloat) take_float_panel(source, panel);
      else if (stored) take_stored_panel(*stored, panel);
      else take_panel(source, panel);
    }
  });
}

// Codes are signed nibbles or bytes.
void PackedMatrix::set_gathered_levels() {
  if (spec_.format == NumberFormat::kMidRise) first_level_ = 1, level_step_ = 2;
  else if (spec_.bits == (order() == PackedOrder::kGather4 ? 4 : 8)) first_level_ = 1 << (spec_.bits - 1);
}

void PackedMatrix::take_scales(const WeightRows& source) {
  scales_ = zeros(DType::kFloat32, panels() * scale_groups_ * kChannels);
  sums_ = zeros(DType::kFloat32, panels() * kChannels);
  if (spec_.has_zero_points()) zero_points_ = zeros(DType::kFloat32, scales_.count());
  if (is_gather(order())) offsets_ = zeros(DType::kInt32, scales_.count());
  if (arrangement_.sums_kept) kept_offsets_ = zeros(DType::kInt32, scales_.count());
  for (int64_t row = 0; row < rows_; ++row) {
    for (int64_t group = 0; group < scale_groups_; ++group) {
      const int64_t to = at(row / kChannels, group) + row % kChannels;
      scales_.f32()[to] = source.scales(row)[group];
      if (spec_.has_zero_points()) zero_points_.f32()[to] = source.zero_points(row)[group];
    }
  }
}

// Sums over the weights of a row, group by group.
void PackedMatrix::take_sums(int64_t row, const int32_t* levels, const uint8_t* mask) {
  float sum = 0.0f;
  for (int64_t group = 0; group < scale_groups_; ++group) {
    const int64_t begin = group * windows_per_scale_ * kWindow, end = std::min(begin + windows_per_scale_ * kWindow, columns_);
    int32_t level_sum = 0, count = end - begin;
    for (int64_t i = begin; i < end; ++i) level_sum += levels[i];
    if (spec_.is_sparse()) count = static_cast<int32_t>(std::count(mask + begin, mask + end, uint8_t{1}));
    put_sums(row, group, level_sum, count, sum);
  }
  sums_.f32()[row] = sum;
}

// `count` weights of one scale group are kept, with levels of that sum; adds them to `sum`, of the row.
void PackedMatrix::put_sums(int64_t row, int64_t group, int32_t levels, int32_t count, float& sum) {
  const int64_t to = at(row / kChannels, group) + row % kChannels;
  float whole = static_cast<float>(levels);
  if (spec_.has_zero_points()) whole = std::fma(-zero_points_.f32()[to], static_cast<float>(count), whole);
  sum = std::fma(whole, scales_.f32()[to], sum);
  if (arrangement_.sums_kept) {
    kept_offsets_.i32()[to] = kActivationOffset * count;
    offsets_.i32()[to] = kActivationOffset * ((levels - first_level_ * count) / level_step_);
  } else if (is_gather(order())) {
    offsets_.i32()[to] = kActivationOffset * levels;
  }
}

void PackedMatrix::take_float_panel(const WeightRows& source, int64_t panel) {
  const int64_t first = panel * kChannels, channels = std::min(kChannels, rows_ - first);
  const bool last = panel + 1 == panels();
  const int64_t room = last ? kFloatChannels - first % kFloatChannels : kChannels;  // to the end of the panel of 32
  std::vector<int32_t> bits(static_cast<size_t>(channels * columns_));
  for (int64_t i = 0; i < channels; ++i) source.unpack_row(first + i, bits.data() + i * columns_, nullptr);
  float* to = float_panel(panel);
  for (int64_t column = 0; column < columns_; ++column, to += kFloatChannels) {
    for (int64_t i = 0; i < channels; ++i) std::memcpy(to + i, bits.data() + i * columns_ + column, sizeof(float));
    std::fill(to + channels, to + room, 0.0f);
  }
}

void PackedMatrix::take_panel(const WeightRows& source, int64_t panel) {
  PanelScratch scratch(*this);
  const int64_t first = panel * kChannels, channels = std::min(kChannels, rows_ - first);
  int32_t* const levels = scratch.levels.data();
  uint8_t* const mask = scratch.mask.data();
  uint8_t* const codes = scratch.codes.data();
  uint8_t* const blocks = codes_.data<uint8_t>() + panel * panel_bytes_;
  const bool gathered = is_gather(order()), nf4 = spec_.format == NumberFormat::kNormalFloat4;
  if (gathered) clear_gathered(arrangement_, nf4 ? uint8_t{0x77} : uint8_t{0}, panel_bytes_, blocks);
  for (int64_t channel = 0; channel < channels; ++channel) {
    const int64_t row = first + channel;
    source.unpack_row(row, levels, spec_.is_sparse() ? mask : nullptr);
    take_sums(row, levels, mask);
    if (order() == PackedOrder::kRows) {
      int16_t* to = codes_.data<int16_t>() + row * columns_;
      for (int64_t i = 0; i < columns_; ++i) to[i] = !spec_.is_sparse() || mask[i] ? static_cast<int16_t>(levels[i]) : kPruned;
      continue;
    }
    if (arrangement_.sums_kept) {
      const uint8_t code_mask = order() == PackedOrder::kGather4 ? 15 : 255;
      for (int64_t i = 0; i < columns_; ++i) codes[i] = static_cast<uint8_t>((levels[i] - first_level_) >> (level_step_ - 1)) & code_mask;
    } else if (order() == PackedOrder::kGather4 && !nf4) {
      const int32_t halved = spec_.format == NumberFormat::kMidRise;
      for (int64_t i = 0; i < columns_; ++i) codes[i] = static_cast<uint8_t>((levels[i] >> halved) & 15);
    } else if (order() == PackedOrder::kGather8) {
      for (int64_t i = 0; i < columns_; ++i) codes[i] = static_cast<uint8_t>(levels[i]);
    } else if (nf4) {
      for (int64_t i = 0; i < columns_; ++i) codes[i] = static_cast<uint8_t>(spec_.raw(levels[i]));
    } else {
      for (int64_t i = 0; i < columns_; ++i) codes[i] = static_cast<uint8_t>((levels[i] - first_level_) >> (level_step_ - 1));
    }
    if (gathered) {
      std::fill(mask + columns_, mask + scratch.inputs, uint8_t{0});
      write_gathered(arrangement_, channel, codes, mask, windows_, blocks);
    } else {
      uint8_t* to = scratch.units.data() + channel * 4;
      for (int64_t unit = 0; unit < windows_ * kDenseUnits; ++unit) std::memcpy(to + unit * kUnitBytes, codes + unit * 4, 4);
    }
  }
  if (is_dense(order())) compress_dense(order(), scratch.units.data(), windows_ * kDenseUnits, blocks);
}

void PackedMatrix::unpack_row(int64_t row, int32_t* levels, uint8_t* mask) const {
  if (order() == PackedOrder::kRows) {
    const int16_t* from = codes_.data<int16_t>() + row * columns_;
    for (int64_t i = 0; i < columns_; ++i) {
      mask[i] = from[i] != kPruned;
      levels[i] = mask[i] ? from[i] : 0;
    }
    return;
  }
  const bool gathered = is_gather(order()), nf4 = spec_.format == NumberFormat::kNormalFloat4;
  std::fill_n(levels, columns_, 0);
  std::fill_n(mask, columns_, static_cast<uint8_t>(!arrangement_.sums_kept));
  const uint8_t* blocks = codes(row / kChannels, 0);
  const int64_t first = row % kChannels * 4;
  for (int64_t unit = 0; unit < windows_ * arrangement_.units; ++unit) {
    for (int64_t place = first; place < first + 4; ++place) {
      const int64_t input = input_at(arrangement_, blocks, unit, place);
      if (input >= columns_) continue;
      const uint32_t code = code_at(arrangement_, blocks, unit, place);
      int32_t level;
      if (nf4) level = kNormalFloat4Levels[code];
      else if (!gathered) level = level_step_ * static_cast<int32_t>(code) + first_level_;
      else if (order() == PackedOrder::kGather8) level = static_cast<int8_t>(code);
      else level = (static_cast<int8_t>(code << 4) + nibble_rest()) >> nibble_shift();
      if (arrangement_.sums_kept) {
        level = level_step_ * level + first_level_;
        mask[input] = 1;
      }
      levels[input] += level;  // unused places hold level 0, or lie beyond the row
    }
  }
}

void PackedMatrix::dequantize_panel(int64_t panel, float* weights, int64_t stride) const {
  const int64_t channels = std::min(kChannels, rows_ - panel * kChannels);
  if (order() == PackedOrder::kFloat) {
    const float* from = float_panel(panel);
    for (int64_t i = 0; i < channels; ++i) {
      for (int64_t column = 0; column < columns_; ++column) weights[i * stride + column] = from[column * kFloatChannels + i];
    }
    return;
  }
  std::vector<int32_t> levels(static_cast<size_t>(columns_));
  std::vector<uint8_t> mask(static_cast<size_t>(columns_));
  std::vector<float> scales(static_cast<size_t>(scale_groups_)), zero_points(scales.size());
  for (int64_t channel = 0; channel < channels; ++channel) {
    unpack_row(panel * kChannels + channel, levels.data(), mask.data());
    for (int64_t group = 0; group < scale_groups_; ++group) {
      scales[group] = this->scales(panel, group)[channel];
      if (spec_.has_zero_points()) zero_points[group] = this->zero_points(panel, group)[channel];
    }
    dequantize_row(spec_, levels.data(), scales.data(), zero_points.data(), mask.data(), columns_, weights + channel * stride);
  }
}

int64_t PackedMatrix::resident_bytes() const {
  int64_t bytes = static_cast<int64_t>(sizeof *this);
  for (const Tensor* tensor : {&codes_, &scales_, &zero_points_, &offsets_, &kept_offsets_, &sums_}) {
    if (tensor->storage()) bytes += static_cast<int64_t>(tensor->bytes());
  }
  return bytes;
}

}  // namespace usmlite::codec
