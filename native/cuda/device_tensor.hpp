// Matrices and vectors in the memory of the GPU.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.hpp"
#include "cuda/device_memory.hpp"

namespace usmlite::cuda {

/// Types of elements on the GPU. kFloat8 is e4m3: four bits of exponent, three of mantissa, at most 448.
enum class DeviceType : uint8_t { kFloat32, kBFloat16, kFloat16, kInt8, kFloat8 };

size_t size_of(DeviceType type);
const char* name_of(DeviceType type);

/// (rows, columns), or (columns) as a single row. Rows begin at multiples of 16 bytes; what lies between them is zero.
class DeviceTensor {
 public:
  DeviceTensor() = default;
  /// Uninitialised, apart from the gaps between rows. `shape` has one or two extents. Throws OUT_OF_MEMORY.
  DeviceTensor(DeviceType type, std::vector<int64_t> shape, const std::shared_ptr<Stream>& stream);
  /// The gaps between rows uninitialised too, for whoever writes zeros there along with the rest: filling them is an operation of the GPU.
  static DeviceTensor with_open_gaps(DeviceType type, std::vector<int64_t> shape, const std::shared_ptr<Stream>& stream);

  DeviceType type() const { return type_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  int64_t rows() const { return shape_.size() == 2 ? shape_[0] : 1; }
  int64_t columns() const { return shape_.back(); }
  int64_t row_stride() const { return row_stride_; }  // elements
  bool released() const { return memory_ == nullptr; }
  const std::shared_ptr<DeviceMemory>& memory() const { return memory_; }
  template <typename T> T* use_on(const std::shared_ptr<Stream>& stream) const {
    return reinterpret_cast<T*>(memory_->use_on(stream) + offset_);
  }
  /// The same memory as another matrix (rows, columns) of as many elements. Throws UNSUPPORTED_SPEC where rows, old or new,
  /// do not end at multiples of 16 bytes.
  DeviceTensor reshaped(std::vector<int64_t> shape) const;
  /// Rows [begin, end) of a matrix, in the same memory.
  DeviceTensor slice(int64_t begin, int64_t end) const;
  /// Columns [begin, end) of a matrix, in the same memory, both at multiples of 16 bytes: for what keeps to its columns, since other
  /// columns lie between its rows.
  DeviceTensor column_range(int64_t begin, int64_t end) const;

 private:
  enum class Gaps : uint8_t { kZero, kOpen };
  DeviceTensor(DeviceType type, std::vector<int64_t> shape, const std::shared_ptr<Stream>& stream, Gaps gaps);

  DeviceType type_ = DeviceType::kFloat32;
  std::vector<int64_t> shape_;
  int64_t row_stride_ = 0;
  int64_t offset_ = 0;  // bytes
  std::shared_ptr<DeviceMemory> memory_;
};

/// Copies float32 values to the GPU and rounds them there to `type` (kFloat32, kBFloat16 or kFloat16).
DeviceTensor upload(const Tensor& values, DeviceType type, const std::shared_ptr<Stream>& stream);
/// Copies bytes as they are: `bytes` holds the rows without gaps.
void upload_bytes(const DeviceTensor& tensor, const uint8_t* bytes, const std::shared_ptr<Stream>& stream);
/// Waits, and copies the values back: float types as float32, int8 as int8, kFloat8 as the bytes (uint8).
Tensor download(const DeviceTensor& tensor, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
