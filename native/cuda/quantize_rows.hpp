// Activations of 8 bits, with a scale for each row, for products in 8-bit arithmetic.
#pragma once
#include <cstdint>

#include "cuda/runtime.hpp"

namespace usmlite::cuda {

/// What a row becomes, x = scale * code + offset:
///   kInt8            scale = max |x| / 127, codes -127 .. 127, no offset
///   kInt4            scale = max |x| / 7, codes -7 .. 7, in bytes, no offset
///   kInt8Asymmetric  scale = max x / 254 - min x / 254, codes -127 .. 127, offset = min x + 127 scale
///   kFloat8          scale = max |x| / 448, e4m3 floats, no offset
enum class RowCodes : uint8_t { kInt8, kInt4, kInt8Asymmetric, kFloat8 };
enum class RowFloats : uint8_t { kBFloat16, kFloat16 };

struct QuantizeRowsArguments {
  int rows, columns;
  RowFloats from;
  const void* x;           // (rows, x_stride), aligned to 16 bytes; x_stride a multiple of 8, zeros behind a row
  int64_t x_stride;
  RowCodes to;
  void* codes;             // (rows, codes_stride), aligned to 16 bytes; codes_stride a multiple of 16
  int64_t codes_stride;
  float* scales;           // (rows)
  float* offsets;          // (rows) of kInt8Asymmetric; not used by others
};

/// Codes are rounded to nearest, ties to even: what native/cpu/packed_matmul.cpp does to its activations. Codes up to the next multiple
/// of 16 columns are zeros. Rows of (nearly) zeros have scale 0, asymmetric rows of (nearly) one value scale 1 and that value as their
/// offset; rows with an infinity or NaN have scale NaN; their codes are zeros.
/// Throws INVALID_ARGUMENT for a shape, stride or alignment other than these.
void quantize_rows(const QuantizeRowsArguments& arguments, StreamHandle stream);

}  // namespace usmlite::cuda
