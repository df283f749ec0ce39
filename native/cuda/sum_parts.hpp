// The second stage of sums over frames: blocks of a first kernel leave partial sums, which are added here in one order, so that
// the same work gives the same bits.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// Sums of columns [first_column, first_column + columns) of partial (parts, ..) float32. They are rows of `inner`, of which the
/// first `used` are wanted: sum i goes to sums[(i % inner) * stride + i / inner], which transposes a matrix on the way.
struct PartSums {
  int64_t first_column, columns;
  float* sums;
  int64_t inner, used, stride;

  static PartSums vector(int64_t first_column, int64_t columns, float* sums) { return {first_column, columns, sums, columns, columns, 1}; }
};
void sum_parts(const DeviceMatrix& partial, const PartSums& sums, const Stream& stream);

/// How many blocks share frames, each with at least `least` of them, when `others` blocks work beside each on other columns:
/// enough for every multiprocessor to have some.
int64_t parts_of(int64_t frames, int64_t least, int64_t others);

}  // namespace usmlite::cuda
