// Matrices and vectors that own their memory on the GPU.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/tensor.hpp"
#include "cuda/device_matrix.hpp"
#include "cuda/device_memory.hpp"

namespace usmlite::cuda {

/// (rows, columns), or (columns) as a single row. Copies share the memory.
class DeviceTensor : public DeviceMatrix {
 public:
  DeviceTensor() = default;
  /// Uninitialised, apart from the gaps between rows. `shape` has one or two extents. Throws OUT_OF_MEMORY.
  DeviceTensor(DeviceType type, std::vector<int64_t> shape, const Stream& stream);
  /// The gaps between rows uninitialised too, for whoever writes zeros there along with the rest: filling them is an operation of the GPU.
  static DeviceTensor with_open_gaps(DeviceType type, std::vector<int64_t> shape, const Stream& stream);

  const std::vector<int64_t>& shape() const { return shape_; }
  bool released() const { return owned_ == nullptr; }
  const std::shared_ptr<DeviceMemory>& memory() const { return owned_; }
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
  DeviceTensor(DeviceType type, std::vector<int64_t> shape, const Stream& stream, Gaps gaps);

  void set_shape(std::vector<int64_t> shape);

  std::vector<int64_t> shape_;
  std::shared_ptr<DeviceMemory> owned_;
};

/// Copies float32 values to the GPU and rounds them there to `type` (kFloat32, kBFloat16 or kFloat16).
DeviceTensor upload(const Tensor& values, DeviceType type, const Stream& stream);
/// Copies bytes as they are: `bytes` holds the rows without gaps.
void upload_bytes(const DeviceTensor& tensor, const uint8_t* bytes, const Stream& stream);
/// Waits, and copies the values back: float types as float32, int8 as int8, kFloat8 as the bytes (uint8).
Tensor download(const DeviceTensor& tensor, const Stream& stream);

}  // namespace usmlite::cuda
