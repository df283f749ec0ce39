#include "cuda/kernel_codes.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace usmlite::cuda {
namespace {

/// At most two of four adjacent inputs are kept: 2:4, and every 1:M, since four inputs meet at most two groups of M.
bool fits_sparse_tensor_cores(const codec::WeightSpec& spec) { return spec.kept == 1 || (spec.kept == 2 && spec.of == 4); }

/// The fewest bits that hold every level of a format of whole numbers and that the kernels take in arithmetic of 16 bits; they take
/// fewer kinds of weights with zeros between.
Codes codes_for_levels(const codec::WeightSpec& spec) {
  const int32_t highest = spec.highest_level();
  if (!spec.is_sparse()) {
    if (spec.format == codec::NumberFormat::kNormalFloat4) return Codes::kNormalFloat4;
    if (!spec.has_zero() && highest == 1) return Codes::kInt1;
    if (highest > 1 && highest <= 3) return Codes::kInt3;
  }
  if (highest == 1) return Codes::kInt2;
  return highest <= 7 ? Codes::kInt4 : Codes::kInt8;
}

Codes codes_with_zero_points(const codec::WeightSpec& spec) { return spec.bits > 4 ? Codes::kUint8 : spec.bits > 2 ? Codes::kUint4 : Codes::kUint2; }

/// Codes that stand for levels as they are: of a byte, with zero in their midst.
bool has_plain_codes(const codec::WeightSpec& spec) { return !spec.has_zero_points() && spec.highest_level() <= 127; }

}  // namespace

void unsupported_on_gpu(const codec::WeightSpec& spec, const std::string& sentence) {
  throw Error(error_code::kUnsupportedSpec, "weight spec " + codec::to_text(spec) + " on a GPU: " + sentence);
}

KernelForm kernel_form(const codec::WeightSpec& spec, Arithmetic arithmetic) {
  const bool sparse = spec.is_sparse() && fits_sparse_tensor_cores(spec);
  if (arithmetic == Arithmetic::kFloat8) {
    if (spec.is_integer()) unsupported_on_gpu(spec, "float8 arithmetic takes float32 weights; use int8, bfloat16 or float16 arithmetic");
    return {Codes::kFloat8, sparse, false, false};
  }
  if (is_16_bit(arithmetic)) {
    if (!spec.is_integer()) return {Codes::kFloat16Bit, sparse, false, false};
    if (has_plain_codes(spec)) return {codes_for_levels(spec), sparse, false, false};
    const bool leaves_out_pruned = !spec.is_sparse() || (spec.kept == 2 && spec.of == 4);
    if (!leaves_out_pruned) return {Codes::kFloat16Bit, sparse, true, false};
    return {codes_with_zero_points(spec), sparse, false, false};
  }
  if (!spec.is_integer()) unsupported_on_gpu(spec, "int8 arithmetic takes weights of whole numbers; use bfloat16, float16 or float8 arithmetic");
  const LevelCoding coding = level_coding(spec);
  const bool fits_nibble = std::max(coding.code(spec.highest_level()), -coding.code(spec.lowest_level()) - 1) <= 7;
  const bool grouped = spec.group_size || !has_plain_codes(spec);
  return {fits_nibble ? Codes::kInt4 : Codes::kInt8, sparse && !grouped, false, grouped};
}

LevelCoding level_coding(const codec::WeightSpec& spec) {
  if (spec.has_zero_points()) return {1, 1 << (spec.bits - 1)};
  if (!has_plain_codes(spec)) return {2, 1};  // odd numbers
  return {1, 0};
}

}  // namespace usmlite::cuda
