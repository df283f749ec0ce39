#include "codec/packed_matrix.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "codec/quantize.hpp"
#include "core/error.hpp"
#include "core/thread_pool.hpp"

namespace usmlite::codec {
namespace {

constexpr int64_t kDenseUnits = 4;          // per window
constexpr int64_t kCodesPerUnit = 4;        // per channel
constexpr int64_t kLongestRun = 64;         // windows: kernels work through a run with its codes in the nearest cache
constexpr int32_t kLargestActivation = 255;
constexpr int32_t kLargestRunSum = 32767 / kLargestActivation;  // 128

bool is_gather(PackedOrder order) { return order == PackedOrder::kGather4 || order == PackedOrder::kGather8; }

// Most non-zero codes of any row in any window.
int64_t largest_window(const int8_t* codes, int64_t rows, int64_t columns) {
  int64_t largest = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t begin = 0; begin < columns; begin += PackedMatrix::kWindow) {
      const int64_t end = std::min(begin + PackedMatrix::kWindow, columns);
      int64_t count = 0;
      for (int64_t i = begin; i < end; ++i) count += codes[row * columns + i] != 0;
      largest = std::max(largest, count);
    }
  }
  return largest;
}

Tensor zeros(DType dtype, int64_t count) {
  Tensor tensor(dtype, {count});
  std::memset(tensor.data<char>(), 0, tensor.bytes());
  return tensor;
}

}  // namespace

PackedMatrix::PackedMatrix(const Unpacker& source)
    : spec_(source.layout().spec), rows_(source.layout().rows), columns_(source.layout().columns) {
  if (columns_ > kMaximumColumns) {
    throw Error(error_code::kInvalidArgument, "the weight has " + std::to_string(columns_) +
                                                  " inputs; packed products take at most " +
                                                  std::to_string(kMaximumColumns));
  }
  const auto unpack_rows = [&](auto&& take_row) {
    parallel_for(rows_, 16, [&](int64_t begin, int64_t end) {
      std::vector<int32_t> row_codes(static_cast<size_t>(columns_));
      for (int64_t row = begin; row < end; ++row) {
        source.unpack_row(row, row_codes.data(), nullptr);
        take_row(row, row_codes.data());
      }
    });
  };
  if (!spec_.is_integer()) {
    codes_ = Tensor(DType::kFloat32, {rows_, columns_});
    unpack_rows([&](int64_t row, const int32_t* codes) {
      dequantize_row(spec_, codes, nullptr, nullptr, nullptr, columns_, codes_.f32() + row * columns_);
    });
    return;
  }
  windows_per_scale_ = spec_.group_size ? spec_.group_size / kWindow : windows();
  scale_groups_ = (windows() + windows_per_scale_ - 1) / windows_per_scale_;
  take_scales(source);
  if (spec_.format != NumberFormat::kSymmetric && spec_.format != NumberFormat::kTernary) {
    fill_rows(source);
    return;
  }
  std::vector<int8_t> codes(static_cast<size_t>(rows_ * columns_));
  unpack_rows([&](int64_t row, const int32_t* from) { std::copy_n(from, columns_, codes.begin() + row * columns_); });

  const int64_t largest = largest_window(codes.data(), rows_, columns_);
  const bool gather = largest <= 2 * kCodesPerUnit, four_bits = spec_.bits <= 4;
  units_ = gather ? (largest <= kCodesPerUnit ? 1 : 2) : kDenseUnits;
  if (gather) order_ = four_bits ? PackedOrder::kGather4 : PackedOrder::kGather8;
  else order_ = four_bits ? PackedOrder::kDense4 : PackedOrder::kDense8;

  const int64_t unit_pairs = (windows() * units_ + 1) / 2;
  code_bytes_ = (order_ == PackedOrder::kDense4 ? unit_pairs : windows() * units_) * kUnitBytes;
  input_bytes_ = order_ == PackedOrder::kGather8 ? unit_pairs * kUnitBytes : 0;
  codes_ = zeros(DType::kUint8, panels() * code_bytes_);
  inputs_ = zeros(DType::kUint8, panels() * input_bytes_);
  offsets_ = zeros(DType::kInt32, panels() * scale_groups() * kChannels);
  for (int64_t row = 0; row < rows_; ++row) {
    for (int64_t group = 0; group < scale_groups(); ++group) {
      const int64_t at = (row / kChannels * scale_groups() + group) * kChannels + row % kChannels;
      const int64_t begin = group * windows_per_scale_ * kWindow;
      const int64_t end = std::min(begin + windows_per_scale_ * kWindow, columns_);
      int32_t sum = 0;
      for (int64_t i = begin; i < end; ++i) sum += codes[row * columns_ + i];
      offsets_.i32()[at] = 128 * sum;
    }
  }
  parallel_for(panels(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) fill_panel(panel, codes.data());
  });
  run_begin_.push_back(0);
  for (int64_t panel = 0; panel < panels(); ++panel) find_runs(panel);
}

void PackedMatrix::take_scales(const Unpacker& source) {
  scales_ = zeros(DType::kFloat32, panels() * scale_groups() * kChannels);
  if (spec_.has_zero_points()) zero_points_ = zeros(DType::kFloat32, scales_.count());
  for (int64_t row = 0; row < rows_; ++row) {
    for (int64_t group = 0; group < scale_groups(); ++group) {
      const int64_t at = (row / kChannels * scale_groups() + group) * kChannels + row % kChannels;
      scales_.f32()[at] = source.scales(row)[group];
      if (spec_.has_zero_points()) zero_points_.f32()[at] = source.zero_points(row)[group];
    }
  }
}

void PackedMatrix::fill_rows(const Unpacker& source) {
  order_ = PackedOrder::kRows;
  codes_ = Tensor(DType::kUint8, {rows_ * columns_ * int64_t{sizeof(int16_t)}});
  parallel_for(rows_, 16, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> levels(static_cast<size_t>(columns_));
    std::vector<uint8_t> mask(static_cast<size_t>(columns_));
    for (int64_t row = begin; row < end; ++row) {
      source.unpack_row(row, levels.data(), mask.data());
      int16_t* to = codes_.data<int16_t>() + row * columns_;
      for (int64_t i = 0; i < columns_; ++i) to[i] = mask[i] ? static_cast<int16_t>(levels[i]) : kPruned;
    }
  });
}

void PackedMatrix::fill_panel(int64_t panel, const int8_t* codes) {
  uint8_t* const to = codes_.data<uint8_t>() + panel * code_bytes_;
  uint8_t* const input_nibbles = inputs_.data<uint8_t>() + panel * input_bytes_;
  if (order_ == PackedOrder::kDense4) std::fill_n(to, code_bytes_, uint8_t{0x88});
  if (order_ == PackedOrder::kGather4) std::fill_n(to, code_bytes_, uint8_t{0x80});
  for (int64_t channel = 0; channel < kChannels; ++channel) {
    const int64_t row = panel * kChannels + channel;
    if (row >= rows_) break;
    for (int64_t window = 0; window < windows(); ++window) {
      int64_t place = 0;  // among the codes of this channel and window
      for (int64_t i = 0; i < kWindow && window * kWindow + i < columns_; ++i) {
        const int8_t code = codes[row * columns_ + window * kWindow + i];
        if (is_gather(order_) && code == 0) continue;
        const int64_t unit = window * units_ + place / kCodesPerUnit;
        const int64_t byte = channel * kCodesPerUnit + place % kCodesPerUnit;
        const int64_t own = unit * kUnitBytes + byte, paired = unit / 2 * kUnitBytes + byte;
        const int shift = unit % 2 ? 4 : 0;
        if (order_ == PackedOrder::kDense4) {
          to[paired] = static_cast<uint8_t>((to[paired] & (0xF0 >> shift)) | (code + 8) << shift);
        } else if (order_ == PackedOrder::kGather4) {
          to[own] = static_cast<uint8_t>((code + 8) << 4 | i);
        } else {
          to[own] = static_cast<uint8_t>(code);
          if (order_ == PackedOrder::kGather8) input_nibbles[paired] = static_cast<uint8_t>(input_nibbles[paired] | i << shift);
        }
        ++place;
      }
    }
  }
}

int32_t PackedMatrix::unit_code(int64_t panel, int64_t unit, int64_t place) const {
  const uint8_t* bytes = codes(panel);
  switch (order_) {
    case PackedOrder::kDense4: return (bytes[unit / 2 * kUnitBytes + place] >> (unit % 2 ? 4 : 0) & 15) - 8;
    case PackedOrder::kGather4: return (bytes[unit * kUnitBytes + place] >> 4) - 8;
    default: return static_cast<int8_t>(bytes[unit * kUnitBytes + place]);
  }
}

int64_t PackedMatrix::unit_input(int64_t panel, int64_t unit, int64_t place) const {
  const int64_t window = unit / units_ * kWindow;
  switch (order_) {
    case PackedOrder::kGather4: return window + (codes(panel)[unit * kUnitBytes + place] & 15);
    case PackedOrder::kGather8: return window + (inputs(panel)[unit / 2 * kUnitBytes + place] >> (unit % 2 ? 4 : 0) & 15);
    default: return window + unit % units_ * kCodesPerUnit + place % kCodesPerUnit;
  }
}

// A 16-bit lane sums the products of two neighbouring codes of each unit. Activations are not negative, so at any point
// of a run its sum lies between 255 times the negative and 255 times the positive codes so far.
void PackedMatrix::find_runs(int64_t panel) {
  constexpr int64_t kLanes = kUnitBytes / 2;
  struct Sums {
    int32_t positive[2 * kLanes] = {}, negative[2 * kLanes] = {};  // of the codes, or of both their parts
  };
  Sums run;
  int64_t length = 0;
  for (int64_t window = 0; window < windows(); ++window) {
    Sums longer = run;
    for (int64_t unit = window * units_; unit < (window + 1) * units_; ++unit) {
      for (int64_t place = 0; place < kUnitBytes; ++place) {
        const int32_t code = unit_code(panel, unit, place);
        const bool split = spec_.bits > 4;
        const int32_t parts[2] = {split ? low_part(code) : code, split ? high_part(code) : 0};
        for (int64_t part = 0; part < 2; ++part) {
          longer.positive[part * kLanes + place / 2] += std::max(parts[part], 0);
          longer.negative[part * kLanes + place / 2] += std::max(-parts[part], 0);
        }
      }
    }
    const bool fits = std::ranges::max(longer.positive) <= kLargestRunSum &&
                      std::ranges::max(longer.negative) <= kLargestRunSum;
    if (length > 0 && (!fits || window % windows_per_scale_ == 0 || length == kLongestRun)) {
      runs_.push_back(static_cast<uint16_t>(length));
      for (int64_t i = 0; i < 2 * kLanes; ++i) {
        longer.positive[i] -= run.positive[i];
        longer.negative[i] -= run.negative[i];
      }
      length = 0;
    }
    run = longer;
    ++length;
  }
  runs_.push_back(static_cast<uint16_t>(length));
  run_begin_.push_back(static_cast<int64_t>(runs_.size()));
}

void PackedMatrix::dequantize_rows(int64_t panel, int64_t channels, float* weights, int64_t stride) const {
  std::vector<int32_t> levels(static_cast<size_t>(columns_));
  std::vector<uint8_t> mask(static_cast<size_t>(columns_));
  std::vector<float> scales(static_cast<size_t>(scale_groups())), zero_points(scales.size());
  for (int64_t channel = 0; channel < channels; ++channel) {
    unpack_row(panel * kChannels + channel, levels.data(), mask.data());
    for (int64_t group = 0; group < scale_groups(); ++group) {
      scales[group] = this->scales(panel, group)[channel];
      if (spec_.has_zero_points()) zero_points[group] = this->zero_points(panel, group)[channel];
    }
    dequantize_row(spec_, levels.data(), scales.data(), zero_points.data(), mask.data(), columns_, weights + channel * stride);
  }
}

void PackedMatrix::dequantize_panel(int64_t panel, float* weights, int64_t stride) const {
  const int64_t channels = std::min(kChannels, rows_ - panel * kChannels);
  if (order_ == PackedOrder::kFloat) {
    for (int64_t i = 0; i < channels; ++i) std::copy_n(floats() + (panel * kChannels + i) * columns_, columns_, weights + i * stride);
    return;
  }
  if (order_ == PackedOrder::kRows) return dequantize_rows(panel, channels, weights, stride);
  for (int64_t i = 0; i < channels; ++i) std::fill_n(weights + i * stride, columns_, 0.0f);
  for (int64_t unit = 0; unit < windows() * units_; ++unit) {
    const float* unit_scales = scales(panel, unit / units_ / windows_per_scale_);
    for (int64_t place = 0; place < channels * kCodesPerUnit; ++place) {
      const int64_t channel = place / kCodesPerUnit, input = unit_input(panel, unit, place);
      const int32_t code = unit_code(panel, unit, place);
      if (code != 0) weights[channel * stride + input] = static_cast<float>(code) * unit_scales[channel];
    }
  }
}

void PackedMatrix::unpack_row(int64_t row, int32_t* levels, uint8_t* mask) const {
  if (order_ == PackedOrder::kRows) {
    const int16_t* from = codes_.data<int16_t>() + row * columns_;
    for (int64_t i = 0; i < columns_; ++i) {
      mask[i] = from[i] != kPruned;
      levels[i] = mask[i] ? from[i] : 0;
    }
    return;
  }
  std::fill_n(levels, columns_, 0);
  std::fill_n(mask, columns_, uint8_t{1});
  const int64_t panel = row / kChannels, channel = row % kChannels;
  for (int64_t unit = 0; unit < windows() * units_; ++unit) {
    for (int64_t place = channel * kCodesPerUnit; place < (channel + 1) * kCodesPerUnit; ++place) {
      const int64_t input = unit_input(panel, unit, place);
      if (input < columns_) levels[input] += unit_code(panel, unit, place);  // unused places hold code 0
    }
  }
}

int64_t PackedMatrix::resident_bytes() const {
  int64_t bytes = static_cast<int64_t>(sizeof *this + runs_.size() * sizeof(uint16_t) + run_begin_.size() * sizeof(int64_t));
  for (const Tensor* tensor : {&codes_, &inputs_, &scales_, &zero_points_, &offsets_}) {
    if (tensor->storage()) bytes += static_cast<int64_t>(tensor->bytes());
  }
  return bytes;
}

}  // namespace usmlite::codec
