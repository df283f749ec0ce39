// Weights rearranged once for the matrix-product kernels: small enough to stay resident, quick to expand into what a
// register tile reads. The arrangement is the same for every instruction set.
#pragma once
#include <cstdint>

#include "codec/pack.hpp"
#include "codec/packed_order.hpp"
#include "codec/weight_rows.hpp"
#include "core/tensor.hpp"

namespace usmlite::codec {

/// One immutable matrix.
class PackedMatrix {
 public:
  static constexpr int64_t kChannels = 16;  // of a panel
  static constexpr int64_t kWindow = 16;    // inputs
  static constexpr int64_t kUnitBytes = 64;
  static constexpr int64_t kFloatChannels = 32;  // of a panel of kFloat
  static constexpr int16_t kPruned = INT16_MIN;  // among the levels of kRows
  /// With more inputs an int32 sum of products of 8-bit numbers could overflow.
  static constexpr int64_t kMaximumColumns = 65536;

  /// Throws BAD_CHECKPOINT for impossible codes and INVALID_ARGUMENT for more than kMaximumColumns inputs.
  explicit PackedMatrix(const WeightRows& source);

  const WeightSpec& spec() const { return spec_; }
  int64_t rows() const { return rows_; }        // output channels
  int64_t columns() const { return columns_; }  // inputs
  PackedOrder order() const { return arrangement_.order; }
  const Arrangement& arrangement() const { return arrangement_; }
  int64_t panels() const { return (rows_ + kChannels - 1) / kChannels; }
  /// Windows of a panel; the last ones fill up a block.
  int64_t windows() const { return windows_; }
  /// Windows that share a scale: whole blocks.
  int64_t windows_per_scale() const { return windows_per_scale_; }
  int64_t scale_groups() const { return scale_groups_; }

  /// kFloat: (panels of kFloatChannels, columns, kFloatChannels), zeros behind the last channel.
  const float* floats() const { return codes_.f32(); }
  /// The blocks of a panel from the one of `window` on.
  const uint8_t* codes(int64_t panel, int64_t window) const {
    return codes_.data<uint8_t>() + panel * panel_bytes_ + window / arrangement_.block_windows() * arrangement_.block_bytes();
  }
  /// Scales of the 16 channels of a panel in one scale group.
  const float* scales(int64_t panel, int64_t group) const { return scales_.f32() + at(panel, group); }
  /// Zero points, like scales; null in formats without.
  const float* zero_points(int64_t panel, int64_t group) const {
    return spec_.has_zero_points() ? zero_points_.f32() + at(panel, group) : nullptr;
  }
  /// Gathered orders: 128 times the sum of the codes of each channel of a panel in one scale group, what an activation
  /// stored as x + 128 adds to the product.
  const int32_t* offsets(int64_t panel, int64_t group) const { return offsets_.i32() + at(panel, group); }
  /// 128 times the number of weights of each channel of a panel that are kept in one scale group, where arrangement().sums_kept.
  const int32_t* kept_offsets(int64_t panel, int64_t group) const { return kept_offsets_.i32() + at(panel, group); }
  /// The sum of the weights of each channel of a panel: what a constant added to all inputs multiplies.
  const float* sums(int64_t panel) const { return sums_.f32() + panel * kChannels; }

  /// Dense orders, and gathered ones where arrangement().sums_kept: level = level_step * code + first_level. nf4 is looked up first:
  /// stored value = level + 127.
  int32_t level_step() const { return level_step_; }
  int32_t first_level() const { return first_level_; }
  /// kGather4 but nf4: a code c (-8..7) stands for level (with sums_kept, code) (16 c + rest) >> shift.
  int32_t nibble_rest() const { return spec_.format == NumberFormat::kMidRise ? 8 : 0; }
  int32_t nibble_shift() const { return spec_.format == NumberFormat::kMidRise ? 3 : 4; }

  /// The weights of one panel as floats: channel i of the panel begins at weights[i * stride]. Rows beyond the last are
  /// left out.
  void dequantize_panel(int64_t panel, float* weights, int64_t stride) const;
  /// The levels of one row of an integer matrix, zero where pruned, and what is kept; slow.
  void unpack_row(int64_t row, int32_t* levels, uint8_t* mask) const;
  int64_t resident_bytes() const;

 private:
  int64_t at(int64_t panel, int64_t group) const { return (panel * scale_groups_ + group) * kChannels; }
  void set_gathered_levels();
  void take_scales(const WeightRows& source);
  void take_panel(const WeightRows& source, int64_t panel);
  /// Where channels of a panel of 16 begin in a matrix of kFloat; the next input is kFloatChannels further.
  float* float_panel(int64_t panel) const {
    return const_cast<float*>(floats()) + panel * kChannels / kFloatChannels * kFloatChannels * columns_ + panel * kChannels % kFloatChannels;
  }
  void take_float_panel(const WeightRows& source, int64_t panel);
  void take_sums(int64_t row, const int32_t* levels, const uint8_t* mask);
  void put_sums(int64_t row, int64_t group, int32_t levels, int32_t count, float& sum);
  // packed_matrix_codes.cpp
  bool lies_as_stored() const;
  struct GatherCode {
    int step, zero;
  };
  /// Code of a gathered order = step * stored value - zero, of which nibbles keep four bits.
  GatherCode gather_code() const;
  void take_stored_panel(const Unpacker& source, int64_t panel);
  void take_places(const Unpacker& source, int64_t row, const uint8_t* raw, uint8_t* places);
  void take_stored_sums(int64_t row, const uint8_t* raw, int64_t whole, int64_t rest_levels, int64_t rest_count);
  int64_t level_sum(const uint8_t* raw, int64_t count) const;
  void drop_beyond_row(uint8_t* codes, uint8_t* places, uint8_t nothing) const;

  WeightSpec spec_;
  int64_t rows_, columns_;
  Arrangement arrangement_;
  int64_t windows_ = 0;
  int64_t windows_per_scale_ = 0;
  int64_t scale_groups_ = 0;
  int64_t panel_bytes_ = 0;
  int32_t level_step_ = 1, first_level_ = 0;
  Tensor codes_, scales_, zero_points_, offsets_, kept_offsets_, sums_;
};

}  // namespace usmlite::codec
