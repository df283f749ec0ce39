#include "cuda/scratch_matrix.hpp"

#include <utility>

#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

ScratchMatrix::ScratchMatrix(DeviceType type, int64_t rows, int64_t columns, const Stream& stream)
    : tensor_(new DeviceTensor(type, {rows, columns}, stream)) {
  static_cast<DeviceMatrix&>(*this) = *tensor_;
}

// Two a row of 16 bytes, so that no gap between rows is filled.
ScratchMatrix ScratchMatrix::of_doubles(int64_t count, const Stream& stream) {
  return ScratchMatrix(DeviceType::kFloat32, (count + 1) / 2, 4, stream);
}

ScratchMatrix::ScratchMatrix(ScratchMatrix&& other) noexcept : DeviceMatrix(other), tensor_(std::exchange(other.tensor_, nullptr)) {}

ScratchMatrix& ScratchMatrix::operator=(ScratchMatrix&& other) noexcept {
  std::swap(static_cast<DeviceMatrix&>(*this), static_cast<DeviceMatrix&>(other));
  std::swap(tensor_, other.tensor_);
  return *this;
}

ScratchMatrix::~ScratchMatrix() { delete tensor_; }

}  // namespace usmlite::cuda
