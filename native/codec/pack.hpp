// The bytes of a packed weight matrix, as docs/format.md describes them.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "codec/code_stream.hpp"
#include "codec/double_quantization.hpp"
#include "codec/mask_stream.hpp"
#include "codec/weight_rows.hpp"
#include "codec/weight_spec.hpp"

namespace usmlite::codec {

/// Sizes of the parts of a packed (rows, columns) matrix.
struct PackedLayout {
  PackedLayout(const WeightSpec& spec, int64_t rows, int64_t columns);

  WeightSpec spec;
  int64_t rows;
  int64_t columns;
  int64_t row_bytes;         // from one row's codes to the next's; 0 for sparse rows, which share bytes
  int64_t code_bytes;        // weight_packed
  int64_t scale_count;       // weight_scale: float32, or a byte each where they are double quantized
  int64_t scale_step_count;  // weight_scale_steps, float32; 0 unless scales are double quantized
  int64_t zero_point_count;  // weight_zero_point, float32
  int64_t mask_bytes;        // weight_mask

  /// Scales, their steps and zero points.
  int64_t scale_bytes() const { return scale_count * (spec.double_quantized ? 1 : 4) + (scale_step_count + zero_point_count) * 4; }
};

/// Packed bytes in memory owned by others.
template <typename Byte, typename Float>
struct PackedParts {
  std::span<Byte> codes;
  std::span<Float> scales;  // empty where they are double quantized
  std::span<Byte> mask;
  std::span<Float> zero_points = {};
  std::span<Byte> scale_codes = {};  // of double quantized scales
  std::span<Float> scale_steps = {};
};

/// One row as its quantizer leaves it.
struct QuantizedRow {
  const int32_t* levels;     // (columns); float32: the bits of the weights
  const float* scales;       // (scales per row)
  const float* zero_points;  // (zero points per row)
  const uint8_t* mask;       // (columns), of sparse specs: what is kept
};

/// Writes rows into zeroed memory, but no double quantized scales, which are a matter of all rows together. Rows of sparse matrices
/// share bytes: pack them one after another.
class Packer {
 public:
  Packer(const PackedLayout& layout, PackedParts<uint8_t, float> parts);
  /// Of each N:M group the mask may keep at most N inputs; a pruned input must have level 0. With fewer than N kept the
  /// free places hold zeros of the lowest pruned inputs. Throws INVALID_ARGUMENT when the mask keeps more than N, or
  /// fewer in a format that has no zero.
  void pack_row(int64_t row, const QuantizedRow& values);

 private:
  void pack_group(int64_t row, int64_t group, const QuantizedRow& values);

  PackedLayout layout_;
  PackedParts<uint8_t, float> parts_;
  CodeStream stream_;
  MaskStream masks_;
};

/// Reads rows, in any order and from several threads at once. From it everything that multiplies by packed weights makes
/// its own arrangement.
class Unpacker final : public WeightRows {
 public:
  /// Throws BAD_CHECKPOINT when a part has another size than the layout asks for, a scale is not a positive number, a
  /// zero point not finite, or codes of scales as dequantize_scales says.
  Unpacker(const PackedLayout& layout, PackedParts<const uint8_t, const float> parts);
  /// Throws BAD_CHECKPOINT for a code that stands for nothing, a NaN or infinite float32, an
  /// impossible mask, or a weight beyond the last column.
  void unpack_row(int64_t row, int32_t* levels, uint8_t* mask) const override;
  /// The stored values of all codes of a row of an integer spec. Throws BAD_CHECKPOINT for a code that stands for nothing.
  void read_codes(int64_t row, uint8_t* raw) const;
  /// Calls take(group, mask) for every N:M group of a row of a sparse spec: bits that are set are kept. The last group may
  /// reach beyond the row. Throws BAD_CHECKPOINT for an impossible mask.
  template <typename Take>
  void read_masks(int64_t row, Take&& take) const {
    const int64_t groups = layout_.spec.groups_per_row(layout_.columns);
    masks_.read(parts_.mask.data(), layout_.mask_bytes, row * groups, groups, take);
  }
  /// Throws BAD_CHECKPOINT: the weight of a place beyond the row is not zero.
  [[noreturn]] void fail_beyond_row(int64_t row) const;
  const WeightSpec& spec() const override { return layout_.spec; }
  int64_t rows() const override { return layout_.rows; }
  int64_t columns() const override { return layout_.columns; }
  const float* scales(int64_t row) const override { return parts_.scales.data() + row * scales_per_row_; }
  const float* zero_points(int64_t row) const override {
    return layout_.spec.has_zero_points() ? parts_.zero_points.data() + row * scales_per_row_ : nullptr;
  }
  const PackedLayout& layout() const { return layout_; }

 private:
  void levels_of(int64_t row, int32_t* codes, int64_t count) const;
  void spread(int64_t row, const int32_t* stored, int32_t* levels, uint8_t* mask) const;

  PackedLayout layout_;
  PackedParts<const uint8_t, const float> parts_;
  std::shared_ptr<const std::vector<float>> expanded_scales_;  // what parts_.scales views where they are double quantized
  CodeStream stream_;
  MaskStream masks_;
  int64_t scales_per_row_;
};

}  // namespace usmlite::codec
