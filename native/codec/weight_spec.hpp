// How one weight matrix is coded: the single description that training, export, inspection and kernels share.
#pragma once
#include <cstdint>
#include <string>

namespace usmlite::codec {

/// `float32`, `int8`, `int4`, `int3` or `int2`, optionally with a scale per group of inputs (`/g64`) instead of one per
/// output channel, optionally with N of every M adjacent inputs kept (`+2:4`).
struct WeightSpec {
  int bits = 32;           // 32: float32 values, no scales
  int64_t group_size = 0;  // inputs per scale; 0: the whole row shares one
  int kept = 0;            // N of N:M; 0: dense
  int of = 0;              // M of N:M; 0: dense

  bool is_integer() const { return bits != 32; }
  bool is_sparse() const { return of != 0; }
  /// Largest code; the smallest is its negative (papers call this the symmetric, restricted range).
  int32_t maximum_code() const { return (1 << (bits - 1)) - 1; }
  /// Scales per row of `columns` inputs: none for float32.
  int64_t scales_per_row(int64_t columns) const {
    if (!is_integer()) return 0;
    return group_size ? (columns + group_size - 1) / group_size : 1;
  }
  /// N:M groups per row of `columns` inputs; the last one may reach beyond the row.
  int64_t groups_per_row(int64_t columns) const { return is_sparse() ? (columns + of - 1) / of : 0; }
  /// Codes stored per row of `columns` inputs.
  int64_t codes_per_row(int64_t columns) const { return is_sparse() ? groups_per_row(columns) * kept : columns; }
};

/// Throws UNSUPPORTED_SPEC with what would be right. "2:4" is short for "float32+2:4".
WeightSpec parse_weight_spec(const std::string& text);
/// The canonical text: parse_weight_spec(to_text(spec)) is spec.
std::string to_text(const WeightSpec& spec);

}  // namespace usmlite::codec
