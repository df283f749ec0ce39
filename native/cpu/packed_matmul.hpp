// Activations times a packed weight.
#pragma once
#include <cstdint>
#include <utility>

#include "codec/packed_matrix.hpp"
#include "core/instruction_set.hpp"
#include "cpu/matmul_epilogue.hpp"

namespace usmlite::cpu {

USMLITE_FOR_EACH_ISA(
  // y (m, rows of the weight) = epilogue(x (m, columns of the weight) . weightᵀ), with the weights as floats.
  // `starts`: where the rows of x begin, in elements, when they do not follow each other; they may overlap.
  void packed_matmul_float(const codec::PackedMatrix& weight, int64_t m, const float* x, float* y,
                           const MatmulEpilogue& epilogue, const int64_t* starts = nullptr);
  // The same in whole numbers: every row of x becomes round(x / scale), scale = max |x| / 127, and
  // x . w = scale * (sum over scale groups of (whole products summed exactly) * scale of the weights).
  // A row with NaN or infinity gives NaN; a row below 1e-30 counts as zero. The weight must have an integer spec.
  void packed_matmul_int8(const codec::PackedMatrix& weight, int64_t m, const float* x, float* y,
                          const MatmulEpilogue& epilogue, const int64_t* starts = nullptr);
)
USMLITE_DISPATCH(packed_matmul_float)
USMLITE_DISPATCH(packed_matmul_int8)

/// Rows whose largest magnitude is below this count as zero.
inline constexpr float kSmallestActivation = 1e-30f;
/// Activations are stored as code + 128, codes in -127..127.
inline constexpr int32_t kActivationOffset = 128;

}  // namespace usmlite::cpu
