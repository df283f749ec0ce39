#include "cuda/kernel_codes.hpp"

#include "core/error.hpp"

namespace usmlite::cuda {
namespace {

/// At most two of four adjacent inputs are kept: 2:4, and every 1:M, since four inputs meet at most two groups of M.
bool fits_sparse_tensor_cores(const codec::WeightSpec& spec) { return spec.kept == 1 || (spec.kept == 2 && spec.of == 4); }

/// The fewest bits that hold every level of a format of whole numbers and that the kernels take; they take fewer kinds of
/// sparse weights.
Codes codes_for_levels(const codec::WeightSpec& spec, Arithmetic arithmetic) {
  const int32_t highest = spec.highest_level();
  if (spec.has_zero_points()) unsupported_on_gpu(spec, "there are no kernels for zero points; use a symmetric format, or compute on the CPU");
  if (highest > 127) unsupported_on_gpu(spec, "levels up to " + std::to_string(highest) + " do not fit in a byte; use fewer bits");
  if (!is_16_bit(arithmetic)) return highest <= 7 ? Codes::kInt4 : Codes::kInt8;
  if (!spec.is_sparse()) {
    if (spec.format == codec::NumberFormat::kNormalFloat4) return Codes::kNormalFloat4;
    if (!spec.has_zero() && highest == 1) return Codes::kInt1;
    if (highest > 1 && highest <= 3) return Codes::kInt3;
  }
  if (highest == 1) return Codes::kInt2;
  return highest <= 7 ? Codes::kInt4 : Codes::kInt8;
}

}  // namespace

void unsupported_on_gpu(const codec::WeightSpec& spec, const std::string& sentence) {
  throw Error(error_code::kUnsupportedSpec, "weight spec " + codec::to_text(spec) + " on a GPU: " + sentence);
}

Codes kernel_codes(const codec::WeightSpec& spec, Arithmetic arithmetic) {
  if (spec.is_sparse() && !fits_sparse_tensor_cores(spec)) {
    unsupported_on_gpu(spec, "sparse tensor cores take 2:4 (and 1:M); compress with +2:4, or compute on the CPU");
  }
  if (arithmetic == Arithmetic::kFloat8) {
    if (spec.is_integer()) unsupported_on_gpu(spec, "float8 arithmetic takes float32 weights; use int8, bfloat16 or float16 arithmetic");
    return Codes::kFloat8;
  }
  if (!spec.is_integer()) {
    if (arithmetic == Arithmetic::kInt8) unsupported_on_gpu(spec, "int8 arithmetic takes weights of whole numbers; use bfloat16, float16 or float8 arithmetic");
    return Codes::kFloat16Bit;
  }
  if (arithmetic == Arithmetic::kInt8 && spec.group_size) {
    unsupported_on_gpu(spec, "int8 arithmetic takes one scale per output channel; use bfloat16 or float16 arithmetic");
  }
  return codes_for_levels(spec, arithmetic);
}

}  // namespace usmlite::cuda
