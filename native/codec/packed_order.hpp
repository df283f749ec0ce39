// Which arrangement in memory, and so which kernels, each kind of weight gets.
#pragma once
#include <array>
#include <cstdint>

#include "codec/weight_spec.hpp"

namespace usmlite::codec {

/// How the codes of a matrix lie in memory. Output channels come in panels of 16, inputs in windows of 16. A *unit* is
/// four codes for each channel of a panel (64 codes, channel by channel). Dense units hold the stored values of four
/// adjacent inputs, unsigned; gathered ones hold what is kept of four or two groups of four inputs, and where in its
/// group each is.
enum class PackedOrder {
  kFloat,    // float32 in panels of 32 channels: (panels, inputs, 32)
  kRows,     // row-major int16 levels, kPruned where nothing is kept: what no fast kernel takes
  kDense1,   // the eight units of two windows in 64 bytes, the first in the lowest bit of each
  kDense2,   // the four units of a window in 64 bytes, the first in the lowest two bits
  kDense4,   // two units in 64 bytes, the first in the low nibbles
  kDense8,   // a unit in 64 bytes
  kGather4,  // four units in 192 bytes: codes of units 0 and 1 in nibbles, of units 2 and 3, then two bits for each place
  kGather8,  // four units in 320 bytes: codes of each in bytes, then two bits for each place
};

constexpr bool is_dense(PackedOrder order) { return order >= PackedOrder::kDense1 && order <= PackedOrder::kDense8; }
constexpr bool is_gather(PackedOrder order) { return order >= PackedOrder::kGather4; }

/// One row of the table of fast paths: formats of `low`..`high` bits. `gather` is for sparse weights of which no group of
/// four adjacent inputs (of an output channel) keeps more than two; other sparse ones are multiplied as if dense.
struct FastPath {
  NumberFormat format;
  int low, high;
  PackedOrder dense, gather;
};

/// What is not in this table runs on the reference, and so do sparse weights of asymmetric formats and of midrise8 that
/// cannot be gathered: `arrangement_of` decides.
inline constexpr std::array<FastPath, 12> kFastPaths = {{
    {NumberFormat::kSymmetric, 2, 2, PackedOrder::kDense2, PackedOrder::kGather4},
    {NumberFormat::kSymmetric, 3, 4, PackedOrder::kDense4, PackedOrder::kGather4},
    {NumberFormat::kSymmetric, 5, 8, PackedOrder::kDense8, PackedOrder::kGather8},
    {NumberFormat::kAsymmetric, 2, 2, PackedOrder::kDense2, PackedOrder::kGather4},
    {NumberFormat::kAsymmetric, 3, 4, PackedOrder::kDense4, PackedOrder::kGather4},
    {NumberFormat::kAsymmetric, 5, 8, PackedOrder::kDense8, PackedOrder::kGather8},
    {NumberFormat::kMidRise, 1, 1, PackedOrder::kDense1, PackedOrder::kGather4},
    {NumberFormat::kMidRise, 2, 2, PackedOrder::kDense2, PackedOrder::kGather4},
    {NumberFormat::kMidRise, 3, 4, PackedOrder::kDense4, PackedOrder::kGather4},
    {NumberFormat::kMidRise, 5, 8, PackedOrder::kDense8, PackedOrder::kGather8},
    {NumberFormat::kTernary, 2, 2, PackedOrder::kDense2, PackedOrder::kGather4},
    {NumberFormat::kNormalFloat4, 4, 4, PackedOrder::kDense4, PackedOrder::kGather4},
}};

/// The arrangement of a matrix.
struct Arrangement {
  PackedOrder order = PackedOrder::kFloat;
  int64_t units = 4;    // per window: 4 when dense, 2 or 1 when gathered
  bool biased = false;  // kDense8: bytes are level + 128 instead of stored values, because pruned weights have none
  /// Gathered: levels are level_step * code + first_level, which no pruned weight has, so that besides the products the sum
  /// of the inputs whose weights are kept is wanted.
  bool sums_kept = false;

  /// Windows that lie together: blocks of them begin at whole numbers of blocks.
  int64_t block_windows() const { return is_gather(order) ? 4 / units : order == PackedOrder::kDense1 ? 2 : 1; }
  /// Bytes of such a block, of one panel.
  int64_t block_bytes() const;
};

Arrangement arrangement_of(const WeightSpec& spec);

}  // namespace usmlite::codec
