// What make_tensor_map refuses, on the GPU and on the emulator.
#pragma once
#include <cstdint>
#include <string>

#include "core/error.hpp"

namespace usmlite::cuda {

/// Bytes of a row in a box: what the swizzle repeats over.
inline constexpr int kSwizzledRowBytes = 128;

inline void check_tensor_map(const void* base, int element_bytes, int64_t rows, int64_t columns, int64_t row_stride_elements,
                             int box_rows, int box_columns) {
  constexpr int64_t kMostExtent = int64_t{1} << 31;
  const auto refuse = [](const std::string& sentence) { throw Error(error_code::kInvalidArgument, "tensor map: " + sentence); };
  if (element_bytes != 1 && element_bytes != 2) refuse("elements must have 1 or 2 bytes, not " + std::to_string(element_bytes));
  if (rows < 1 || columns < 1 || rows > kMostExtent || columns > kMostExtent)
    refuse("a matrix of " + std::to_string(rows) + " x " + std::to_string(columns) + "; both must be from 1 to 2^31");
  if (row_stride_elements < columns)
    refuse("rows of " + std::to_string(columns) + " elements overlap at a stride of " + std::to_string(row_stride_elements));
  if (const int64_t bytes = row_stride_elements * element_bytes; bytes % 16 != 0)
    refuse("the stride of rows must be a multiple of 16 bytes, not " + std::to_string(bytes));
  if (reinterpret_cast<uintptr_t>(base) % 16 != 0) refuse("the matrix must begin at a multiple of 16 bytes");
  if (box_rows < 1 || box_rows > 256) refuse("a box may have 1 to 256 rows, not " + std::to_string(box_rows));
  if (box_columns * element_bytes != kSwizzledRowBytes)
    refuse("rows of a box must have 128 bytes, not " + std::to_string(box_columns * element_bytes));
}

}  // namespace usmlite::cuda
