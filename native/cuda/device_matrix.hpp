// Matrices in the memory of the GPU as operations take them.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cuda/stream.hpp"

namespace usmlite::cuda {

/// Types of elements on the GPU. kFloat8 is e4m3: four bits of exponent, three of mantissa, at most 448.
enum class DeviceType : uint8_t { kFloat32, kBFloat16, kFloat16, kInt8, kFloat8 };

size_t size_of(DeviceType type);
const char* name_of(DeviceType type);

class DeviceMemory;

/// (rows, columns), or a vector as a single row. Rows begin at multiples of 16 bytes; what lies between them is zero. A DeviceTensor
/// (device_tensor.hpp) without its ownership of the memory, which takes headers that nvcc reads for seconds.
class DeviceMatrix {
 public:
  DeviceType type() const { return type_; }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  bool is_empty() const { return rows_ == 0 || columns_ == 0; }
  int64_t row_stride() const { return row_stride_; }  // elements
  bool is_vector() const { return is_vector_; }
  template <typename T> T* use_on(const Stream& stream) const { return reinterpret_cast<T*>(bytes_on(stream)); }

 protected:
  DeviceMatrix() = default;
  /// The first byte, for work on `stream`, which uses it next.
  uint8_t* bytes_on(const Stream& stream) const;

  DeviceType type_ = DeviceType::kFloat32;
  bool is_vector_ = false;
  int64_t rows_ = 0, columns_ = 0, row_stride_ = 0;
  DeviceMemory* memory_ = nullptr;  // null: none
  int64_t offset_ = 0;              // bytes
};

}  // namespace usmlite::cuda
