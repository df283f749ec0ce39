// Activations times a packed weight.
#pragma once
#include <cstdint>

#include "codec/packed_matrix.hpp"
#include "core/instruction_set.hpp"
#include "cpu/matmul_epilogue.hpp"
#include "cpu/packed_schedule.hpp"

namespace usmlite::cpu {

/// How a row of activations becomes whole numbers: x = scale * (code - zero point), code rounded with ties to even.
enum class ActivationCoding {
  kInt8,            // scale = max |x| / 127, codes -127 .. 127
  kInt8Asymmetric,  // scale = max x / 254 - min x / 254, codes -127 .. 127, zero point = -127 - min x / scale
  kInt4,            // scale = max |x| / 7, codes -7 .. 7
};

USMLITE_FOR_EACH_ISA(
  // y (m, rows of the weight, half of them after a gated activation) = epilogue(x (m, columns of the weight) . weightᵀ),
  // with the weights as floats. `starts`: where the rows of x begin, in elements, when they do not follow each other; they
  // may overlap.
  void packed_matmul_float(const codec::PackedMatrix& weight, int64_t m, const float* x, float* y,
                           const MatmulEpilogue& epilogue, const int64_t* starts = nullptr);
)
USMLITE_FOR_EACH_VNNI_ISA(
  // The same in whole numbers:
  // x . w = scale * (sum over scale groups of (whole products summed exactly) * scale of the weights).
  // A row with NaN or infinity gives NaN; magnitudes (asymmetric: ranges) below 1e-30 count as zero. The weight must have
  // an integer spec. `schedule`: instead of the one in the table.
  void packed_matmul_int8(const codec::PackedMatrix& weight, int64_t m, const float* x, float* y,
                          const MatmulEpilogue& epilogue, const int64_t* starts = nullptr,
                          ActivationCoding coding = ActivationCoding::kInt8, const PackedSchedule* schedule = nullptr);
)
USMLITE_DISPATCH(packed_matmul_float)
USMLITE_DISPATCH_VNNI(packed_matmul_int8)

/// Rows whose largest magnitude is below this count as zero.
inline constexpr float kSmallestActivation = 1e-30f;

}  // namespace usmlite::cpu
