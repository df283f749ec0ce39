// The bytes of a packed weight matrix, as docs/format.md describes them.
#pragma once
#include <cstdint>
#include <span>

#include "codec/mask_stream.hpp"
#include "codec/weight_spec.hpp"

namespace usmlite::codec {

/// Sizes of the three parts of a packed (rows, columns) matrix.
struct PackedLayout {
  PackedLayout(const WeightSpec& spec, int64_t rows, int64_t columns);

  WeightSpec spec;
  int64_t rows;
  int64_t columns;
  int64_t row_bits;      // from one row's codes to the next's: dense rows begin at a 32-bit word, sparse ones do not
  int64_t code_bytes;    // weight_packed
  int64_t scale_count;   // weight_scale, float32
  int64_t mask_bytes;    // weight_mask
};

/// Packed bytes in memory owned by others.
template <typename Byte, typename Float>
struct PackedParts {
  std::span<Byte> codes;
  std::span<Float> scales;
  std::span<Byte> mask;
};

/// Writes rows into zeroed memory. Rows of sparse matrices share bytes: pack them one after another.
class Packer {
 public:
  Packer(const PackedLayout& layout, PackedParts<uint8_t, float> parts);
  /// Of each N:M group `mask` may keep at most N inputs; a pruned input must have code 0. With fewer than N kept the
  /// free places hold zeros of the lowest pruned inputs. Throws INVALID_ARGUMENT when the mask keeps more than N.
  void pack_row(int64_t row, const int32_t* codes, const float* scales, const uint8_t* mask);

 private:
  PackedLayout layout_;
  PackedParts<uint8_t, float> parts_;
  MaskStream masks_;
};

/// Reads rows, in any order and from several threads at once.
class Unpacker {
 public:
  /// Throws BAD_CHECKPOINT when a part has another size than the layout asks for, or a scale is not a positive number.
  Unpacker(const PackedLayout& layout, PackedParts<const uint8_t, const float> parts);
  /// The codes of one row, zero where pruned, and its mask (may be null). Throws BAD_CHECKPOINT for a code outside
  /// +-maximum_code, a NaN or infinite float32, an impossible mask, or a weight beyond the last column.
  void unpack_row(int64_t row, int32_t* codes, uint8_t* mask) const;
  const float* scales(int64_t row) const { return parts_.scales.data() + row * scales_per_row_; }
  const PackedLayout& layout() const { return layout_; }

 private:
  int32_t read_code(int64_t row, int64_t position) const;

  PackedLayout layout_;
  PackedParts<const uint8_t, const float> parts_;
  MaskStream masks_;
  int64_t scales_per_row_;
};

}  // namespace usmlite::codec
