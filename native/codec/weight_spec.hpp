// How one weight matrix is coded: the single description that training, export, inspection and kernels share.
#pragma once
#include <cstdint>
#include <string>

#include "codec/normal_float4.hpp"

namespace usmlite::codec {

/// What the codes of a matrix stand for. All but float32 stand for whole numbers, *levels*: weight = scale * level, or
/// scale * (level - zero point) in kAsymmetric.
enum class NumberFormat {
  kFloat32,
  kSymmetric,     // int8, int6 .. int2: levels -(2^(b-1) - 1) .. 2^(b-1) - 1
  kAsymmetric,    // uint8, uint6 .. uint2: levels 0 .. 2^b - 1, and a float zero point beside each scale
  kMidRise,       // int1 (-1, 1) and midrise2 .. midrise8: the odd numbers -(2^b - 1) .. 2^b - 1; zero is no level
  kTernary,       // -1, 0, 1; five codes in a byte
  kNormalFloat4,  // nf4: the 16 quantiles of NormalFloat (QLoRA, arXiv 2305.14314) as multiples of 1/127
};

/// A number format, optionally with a scale per group of inputs (`/g64`) instead of one per output channel, which may be coded in eight
/// bits (`/dq`, double_quantization.hpp), optionally with N of every M adjacent inputs kept (`+2:4`). A pruned weight is zero, whatever the format.
struct WeightSpec {
  NumberFormat format = NumberFormat::kFloat32;
  int bits = 32;           // of a code; ternary: 2, though five of its codes share a byte of a file
  int64_t group_size = 0;  // inputs per scale; 0: the whole row shares one
  bool double_quantized = false;  // scales of groups are quantized as well
  int kept = 0;            // N of N:M; 0: dense
  int of = 0;              // M of N:M; 0: dense

  /// Whether codes stand for whole numbers and there are scales: all but float32.
  bool is_integer() const { return format != NumberFormat::kFloat32; }
  bool is_sparse() const { return of != 0; }
  bool has_zero_points() const { return format == NumberFormat::kAsymmetric; }
  /// Whether a weight that is kept can be exactly zero.
  bool has_zero() const { return format != NumberFormat::kMidRise && format != NumberFormat::kAsymmetric; }
  int32_t lowest_level() const { return has_zero_points() ? 0 : -highest_level(); }
  int32_t highest_level() const {
    switch (format) {
      case NumberFormat::kFloat32: return 0;  // it has no levels
      case NumberFormat::kSymmetric: return (1 << (bits - 1)) - 1;
      case NumberFormat::kTernary: return 1;
      case NumberFormat::kNormalFloat4: return kNormalFloat4Levels.back();
      default: return (1 << bits) - 1;
    }
  }
  /// What the code with the stored, unsigned value `raw` stands for. Symmetric formats do not use raw value 0.
  int32_t level(uint32_t raw) const {
    const int32_t code = static_cast<int32_t>(raw);
    switch (format) {
      case NumberFormat::kSymmetric: return code - (1 << (bits - 1));
      case NumberFormat::kMidRise: return 2 * code - highest_level();
      case NumberFormat::kTernary: return code - 1;
      case NumberFormat::kNormalFloat4: return kNormalFloat4Levels[raw & 15];
      default: return code;
    }
  }
  /// The stored value of a level of this format.
  uint32_t raw(int32_t level) const;
  /// Scales per row of `columns` inputs: none for float32.
  int64_t scales_per_row(int64_t columns) const {
    if (!is_integer()) return 0;
    return group_size ? (columns + group_size - 1) / group_size : 1;
  }
  /// Zero points per row of `columns` inputs: one for each scale, where the format has them.
  int64_t zero_points_per_row(int64_t columns) const { return has_zero_points() ? scales_per_row(columns) : 0; }
  /// N:M groups per row of `columns` inputs; the last one may reach beyond the row.
  int64_t groups_per_row(int64_t columns) const { return is_sparse() ? (columns + of - 1) / of : 0; }
  /// Codes stored per row of `columns` inputs.
  int64_t codes_per_row(int64_t columns) const { return is_sparse() ? groups_per_row(columns) * kept : columns; }
};

/// Throws UNSUPPORTED_SPEC with what would be right. "2:4" is short for "float32+2:4".
WeightSpec parse_weight_spec(const std::string& text);
/// The canonical text: parse_weight_spec(to_text(spec)) is spec.
std::string to_text(const WeightSpec& spec);
/// The text of the number format alone: "int4", "ternary".
std::string format_text(const WeightSpec& spec);

}  // namespace usmlite::codec
