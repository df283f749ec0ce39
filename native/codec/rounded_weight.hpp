// Float weights read as if they had been packed: what training multiplies by when it uses the kernels of inference.
#pragma once
#include "codec/weight_rows.hpp"

namespace usmlite::codec {

/// Rounds each row when it is read, to the nearest levels of given scales: the rows that a file made by quantize_row has.
/// The arrays outlive it.
class RoundedWeight final : public WeightRows {
 public:
  /// `mask` may be null for dense specs. Throws INVALID_ARGUMENT for a float spec, or a mask that no file could hold: one
  /// that keeps more than N of M, or fewer in a format without zero.
  RoundedWeight(const WeightSpec& spec, int64_t rows, int64_t columns, const float* weight, const uint8_t* mask,
                const float* scales, const float* zero_points);

  const WeightSpec& spec() const override { return spec_; }
  int64_t rows() const override { return rows_; }
  int64_t columns() const override { return columns_; }
  void unpack_row(int64_t row, int32_t* levels, uint8_t* mask) const override;
  const float* scales(int64_t row) const override { return scales_ + row * spec_.scales_per_row(columns_); }
  const float* zero_points(int64_t row) const override {
    return spec_.has_zero_points() ? zero_points_ + row * spec_.zero_points_per_row(columns_) : nullptr;
  }

 private:
  void check_mask() const;
  void fill_up(uint8_t* mask) const;

  WeightSpec spec_;
  int64_t rows_, columns_;
  const float* weight_;
  const uint8_t* mask_;
  const float* scales_;
  const float* zero_points_;
};

}  // namespace usmlite::codec
