// Tensors: contiguous row-major views of reference-counted storage.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/allocator.hpp"
#include "core/dtype.hpp"

namespace usmlite {

/// One block of tensor memory. Shared by the views made of it; given back when the last one goes.
class Storage {
 public:
  explicit Storage(size_t bytes) : bytes_(bytes), data_(allocator::allocate(bytes)) {}
  ~Storage() { allocator::release(data_, bytes_); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_;
  void* data_;
};

class Tensor {
 public:
  Tensor() = default;
  /// Uninitialized memory.
  Tensor(DType dtype, std::vector<int64_t> shape)
      : dtype_(dtype), shape_(std::move(shape)), storage_(std::make_shared<Storage>(count() * size_of(dtype))) {}
  /// A view of `storage` starting `offset` bytes in.
  Tensor(DType dtype, std::vector<int64_t> shape, std::shared_ptr<Storage> storage, size_t offset)
      : dtype_(dtype), shape_(std::move(shape)), storage_(std::move(storage)), offset_(offset) {}

  DType dtype() const { return dtype_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  int64_t rank() const { return static_cast<int64_t>(shape_.size()); }
  int64_t dim(int64_t axis) const { return shape_[axis < 0 ? axis + rank() : axis]; }
  int64_t count() const {
    int64_t product = 1;
    for (int64_t extent : shape_) product *= extent;
    return product;
  }
  size_t bytes() const { return static_cast<size_t>(count()) * size_of(dtype_); }
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  size_t offset() const { return offset_; }

  template <typename T> T* data() const {
    return reinterpret_cast<T*>(static_cast<char*>(storage_->data()) + offset_);
  }
  float* f32() const { return data<float>(); }
  int32_t* i32() const { return data<int32_t>(); }

 private:
  DType dtype_ = DType::kFloat32;
  std::vector<int64_t> shape_;
  std::shared_ptr<Storage> storage_;
  size_t offset_ = 0;
};

/// "(3, 540, 128)", for error messages.
inline std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

}  // namespace usmlite
