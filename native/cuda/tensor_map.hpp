// Descriptions of matrices for the copy engine of sm_90.
#pragma once
#include <cstdint>

#include "cuda/ptx.cuh"

namespace usmlite::cuda {

/// A matrix (rows, columns) in global memory whose boxes tensor_copy copies, from columns at multiples of 16 bytes on: each
/// row of a box becomes 128 bytes of shared memory, swizzled (ptx_wgmma.cuh); what lies beyond the edges becomes zeros. To be
/// passed to a kernel by value, as `const __grid_constant__ TensorMap`.
///
/// `element_bytes` is 1 or 2, `box_rows` at most 256, `box_columns` elements are 128 bytes; `base` and the row stride are
/// multiples of 16 bytes. Throws INVALID_ARGUMENT otherwise, GPU_FAILED when the driver refuses.
TensorMap make_tensor_map(const void* base, int element_bytes, int64_t rows, int64_t columns, int64_t row_stride_elements,
                          int box_rows, int box_columns);

}  // namespace usmlite::cuda
