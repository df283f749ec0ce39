// Weights rearranged once for the matrix-product kernels: small enough to stay resident, quick to expand into what a
// register tile reads. The arrangement is the same for every instruction set.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "codec/pack.hpp"
#include "core/tensor.hpp"

namespace usmlite::codec {

/// How the codes of a matrix lie in memory. Output channels come in panels of 16, inputs in windows of 16. A *unit* is
/// four codes for each channel of a panel (64 codes, channel by channel).
enum class PackedOrder {
  kFloat,    // row-major float32
  kDense4,   // four units per window, inputs in order; two units in 64 bytes, low nibbles first; code + 8
  kDense8,   // the same in bytes of two's complement, 64 bytes per unit
  kGather4,  // `units` per window hold the non-zero codes and where they are: byte = (code + 8) << 4 | input % 16
  kGather8,  // the same with the codes in bytes, and the input % 16 of two units in the nibbles of 64 bytes
  kRows,     // row-major int16 levels, kPruned where nothing is kept: what no fast kernel takes
};

/// One immutable matrix. Windows in which no row has more than 8 non-zero codes (2:4) or 4 (1:4) are stored as gathers.
class PackedMatrix {
 public:
  static constexpr int64_t kChannels = 16;  // of a panel
  static constexpr int64_t kWindow = 16;    // inputs
  static constexpr int64_t kUnitBytes = 64;
  static constexpr int16_t kPruned = INT16_MIN;  // among the levels of kRows
  /// With more inputs an int32 sum of products of 8-bit numbers could overflow.
  static constexpr int64_t kMaximumColumns = 65536;

  /// Throws BAD_CHECKPOINT for impossible codes and INVALID_ARGUMENT for more than kMaximumColumns inputs.
  explicit PackedMatrix(const Unpacker& source);

  const WeightSpec& spec() const { return spec_; }
  int64_t rows() const { return rows_; }        // output channels
  int64_t columns() const { return columns_; }  // inputs
  PackedOrder order() const { return order_; }
  int64_t panels() const { return (rows_ + kChannels - 1) / kChannels; }
  int64_t windows() const { return (columns_ + kWindow - 1) / kWindow; }
  /// Units per window: 4 when dense, 1 or 2 when gathered.
  int64_t units() const { return units_; }
  /// Windows that share a scale.
  int64_t windows_per_scale() const { return windows_per_scale_; }
  int64_t scale_groups() const { return scale_groups_; }

  /// Zero points, like scales; null in formats without.
  const float* zero_points(int64_t panel, int64_t group) const {
    return spec_.has_zero_points() ? zero_points_.f32() + (panel * scale_groups() + group) * kChannels : nullptr;
  }

  const float* floats() const { return codes_.f32(); }
  const uint8_t* codes(int64_t panel) const { return codes_.data<uint8_t>() + panel * code_bytes_; }
  const uint8_t* inputs(int64_t panel) const { return inputs_.data<uint8_t>() + panel * input_bytes_; }
  /// Scales of the 16 channels of a panel in one scale group.
  const float* scales(int64_t panel, int64_t group) const {
    return scales_.f32() + (panel * scale_groups() + group) * kChannels;
  }
  /// 128 times the sum of the codes of each channel of a panel in one scale group: what an activation stored as
  /// x + 128 adds to the product.
  const int32_t* offsets(int64_t panel, int64_t group) const {
    return offsets_.i32() + (panel * scale_groups() + group) * kChannels;
  }
  /// Numbers of windows, in order, after which 16-bit sums of a panel must be widened: in each run the products of
  /// activations 0..255 with the codes (with either half of a code of more than four bits) stay within 16 bits,
  /// whatever the activations. A run never reaches across a scale group.
  std::span<const uint16_t> runs(int64_t panel) const {
    return {runs_.data() + run_begin_[panel], static_cast<size_t>(run_begin_[panel + 1] - run_begin_[panel])};
  }

  /// The weights of one panel as floats: channel i of the panel begins at weights[i * stride]. Rows beyond the last are
  /// left out.
  void dequantize_panel(int64_t panel, float* weights, int64_t stride) const;
  /// The levels of one row of an integer matrix, zero where pruned, and what is kept; slow.
  void unpack_row(int64_t row, int32_t* levels, uint8_t* mask) const;
  int64_t resident_bytes() const;

 private:
  void take_scales(const Unpacker& source);
  void fill_rows(const Unpacker& source);
  void dequantize_rows(int64_t panel, int64_t channels, float* weights, int64_t stride) const;
  void fill_panel(int64_t panel, const int8_t* codes);
  void find_runs(int64_t panel);
  int32_t unit_code(int64_t panel, int64_t unit, int64_t place) const;
  int64_t unit_input(int64_t panel, int64_t unit, int64_t place) const;

  WeightSpec spec_;
  int64_t rows_, columns_;
  PackedOrder order_ = PackedOrder::kFloat;
  int64_t units_ = 4;
  int64_t windows_per_scale_ = 0;
  int64_t scale_groups_ = 0;
  int64_t code_bytes_ = 0, input_bytes_ = 0;  // of a panel
  Tensor codes_, inputs_, scales_, zero_points_, offsets_;
  std::vector<uint16_t> runs_;
  std::vector<int64_t> run_begin_;
};

/// A code of more than four bits as 16 * high + low with low in -8..7 and high in -8..8: two factors small enough for
/// products with 8-bit activations to be summed in 16 bits.
inline int32_t low_part(int32_t code) { return ((code & 15) ^ 8) - 8; }
inline int32_t high_part(int32_t code) { return (code - low_part(code)) / 16; }

}  // namespace usmlite::codec
