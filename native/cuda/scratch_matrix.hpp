// Matrices that an operation needs on its way.
#pragma once
#include <cstdint>

#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

class DeviceTensor;

/// Uninitialised, apart from the gaps between rows. Work of the stream that uses it may be under way when it goes: what gets the memory next
/// comes after it in the stream.
class ScratchMatrix : public DeviceMatrix {
 public:
  ScratchMatrix() = default;
  /// Throws OUT_OF_MEMORY.
  ScratchMatrix(DeviceType type, int64_t rows, int64_t columns, const Stream& stream);
  /// Room for `count` float64, to be used as such: what use_on<double> gives.
  static ScratchMatrix of_doubles(int64_t count, const Stream& stream);
  ScratchMatrix(ScratchMatrix&& other) noexcept;
  ScratchMatrix& operator=(ScratchMatrix&& other) noexcept;
  ~ScratchMatrix();

 private:
  DeviceTensor* tensor_ = nullptr;  // which a kernel file need not know (device_matrix.hpp)
};

}  // namespace usmlite::cuda
