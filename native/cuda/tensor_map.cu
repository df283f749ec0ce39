#include "cuda/tensor_map.hpp"

#include "cuda/tensor_map_arguments.hpp"

namespace usmlite::cuda {

namespace {

/// cuTensorMapEncodeTiled, from the driver itself, so that nothing is linked with it.
decltype(&cuTensorMapEncodeTiled) encoder() {
  static const auto function = [] {
    constexpr unsigned int kVersion = 12000;  // the CUDA version that it came with
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult result;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, kVersion, cudaEnableDefault, &result) != cudaSuccess ||
        result != cudaDriverEntryPointSuccess)
      throw Error(error_code::kGpuFailed, "the driver has no cuTensorMapEncodeTiled; a driver for CUDA 12 or later is needed");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
  }();
  return function;
}

}  // namespace

TensorMap make_tensor_map(const void* base, int element_bytes, int64_t rows, int64_t columns, int64_t row_stride_elements,
                          int box_rows, int box_columns) {
  check_tensor_map(base, element_bytes, rows, columns, row_stride_elements, box_rows, box_columns);
  constexpr uint32_t kDimensions = 2;
  const cuuint64_t extents[kDimensions] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[kDimensions - 1] = {static_cast<cuuint64_t>(row_stride_elements * element_bytes)};
  const cuuint32_t box[kDimensions] = {static_cast<cuuint32_t>(box_columns), static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[kDimensions] = {1, 1};
  TensorMap map;
  const CUresult code = encoder()(
      &map, element_bytes == 1 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_UINT16, kDimensions, const_cast<void*>(base),
      extents, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (code != CUDA_SUCCESS)
    throw Error(error_code::kGpuFailed, "the driver refused to describe a matrix for the copy engine (CUresult " + std::to_string(code) + ")");
  return map;
}

}  // namespace usmlite::cuda
