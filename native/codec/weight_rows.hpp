// Where the rows of an integer or float matrix come from: a file, or weights that training has just rounded.
#pragma once
#include <cstdint>

#include "codec/weight_spec.hpp"

namespace usmlite::codec {

/// Rows may be read in any order and from several threads at once.
class WeightRows {
 public:
  virtual ~WeightRows() = default;
  virtual const WeightSpec& spec() const = 0;
  virtual int64_t rows() const = 0;
  virtual int64_t columns() const = 0;
  /// The levels of one row (float32: the bits of its weights), zero where pruned, and its mask (may be null: 1 where a
  /// weight is stored, N in every N:M group).
  virtual void unpack_row(int64_t row, int32_t* levels, uint8_t* mask) const = 0;
  virtual const float* scales(int64_t row) const = 0;
  /// Null without zero points.
  virtual const float* zero_points(int64_t row) const = 0;
};

}  // namespace usmlite::codec
