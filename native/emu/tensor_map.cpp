#include "cuda/tensor_map.hpp"

#include "cuda/tensor_map_arguments.hpp"

namespace usmlite::cuda {

TensorMap make_tensor_map(const void* base, int element_bytes, int64_t rows, int64_t columns, int64_t row_stride_elements,
                          int box_rows, int box_columns) {
  check_tensor_map(base, element_bytes, rows, columns, row_stride_elements, box_rows, box_columns);
  TensorMap map{};
  map.base = static_cast<const unsigned char*>(base);
  map.rows = rows;
  map.row_bytes = columns * element_bytes;
  map.row_stride_bytes = row_stride_elements * element_bytes;
  map.element_bytes = element_bytes;
  map.box_rows = box_rows;
  map.box_row_bytes = kSwizzledRowBytes;
  return map;
}

}  // namespace usmlite::cuda
