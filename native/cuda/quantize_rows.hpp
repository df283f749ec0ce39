// Activations of 8 bits, with a scale for each row, for products in 8-bit arithmetic.
#pragma once
#include <cstdint>

#include "cuda/runtime.hpp"

namespace usmlite::cuda {

enum class RowCodes : uint8_t { kInt8, kFloat8 };
enum class RowFloats : uint8_t { kBFloat16, kFloat16 };

struct QuantizeRowsArguments {
  int rows, columns;       // columns: a multiple of 8
  RowFloats from;
  const void* x;           // (rows, x_stride), aligned to 16 bytes; x_stride a multiple of 8
  int64_t x_stride;
  RowCodes to;
  int highest_code;        // of kInt8: 127, or 7, which four bits hold
  void* codes;             // (rows, codes_stride), aligned to 16 bytes; codes_stride a multiple of 16
  int64_t codes_stride;
  float* scales;           // (rows)
};

/// codes = round(x / scale) to nearest, ties to even, with scale = max |x| / highest_code (kInt8, whole numbers) or / 448 (kFloat8,
/// e4m3) of the row: what native/cpu/packed_matmul.cpp does to its activations. Codes up to the next multiple of 16 columns
/// are zeros. Rows of (nearly) zeros have scale 0; rows with an infinity or NaN have scale NaN; their codes are zeros.
/// Throws INVALID_ARGUMENT for a shape, stride or alignment other than these.
void quantize_rows(const QuantizeRowsArguments& arguments, StreamHandle stream);

}  // namespace usmlite::cuda
