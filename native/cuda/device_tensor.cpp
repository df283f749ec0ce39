#include "cuda/device_tensor.hpp"

#include <utility>

#include "core/error.hpp"
#include "cuda/cast.hpp"
#include "cuda/pinned_memory.hpp"

namespace usmlite::cuda {
namespace {

constexpr int64_t kRowAlignment = 16;            // bytes
constexpr int64_t kMostBytes = int64_t{1} << 48;  // more than any GPU has; products beyond could overflow

}  // namespace

size_t size_of(DeviceType type) {
  switch (type) {
    case DeviceType::kFloat32: return 4;
    case DeviceType::kBFloat16: case DeviceType::kFloat16: return 2;
    case DeviceType::kInt8: case DeviceType::kFloat8: return 1;
  }
  return 0;
}

const char* name_of(DeviceType type) {
  switch (type) {
    case DeviceType::kFloat32: return "float32";
    case DeviceType::kBFloat16: return "bfloat16";
    case DeviceType::kFloat16: return "float16";
    case DeviceType::kInt8: return "int8";
    case DeviceType::kFloat8: return "float8";
  }
  return "unknown";
}

uint8_t* DeviceMatrix::bytes_on(const Stream& stream) const { return memory_->use_on(stream) + offset_; }

DeviceTensor::DeviceTensor(DeviceType type, std::vector<int64_t> shape, const Stream& stream)
    : DeviceTensor(type, std::move(shape), stream, Gaps::kZero) {}

DeviceTensor DeviceTensor::with_open_gaps(DeviceType type, std::vector<int64_t> shape, const Stream& stream) {
  return DeviceTensor(type, std::move(shape), stream, Gaps::kOpen);
}

DeviceTensor::DeviceTensor(DeviceType type, std::vector<int64_t> shape, const Stream& stream, Gaps gaps) {
  type_ = type;
  set_shape(std::move(shape));
  const int64_t element = static_cast<int64_t>(size_of(type));
  const int64_t row_bytes = (columns() * element + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
  if (row_bytes > 0 && rows() > kMostBytes / row_bytes) {
    throw Error(error_code::kOutOfMemory, "no GPU has the memory of a tensor of shape " + shape_text(shape_) + "; use a smaller batch");
  }
  row_stride_ = row_bytes / element;
  owned_ = std::make_shared<DeviceMemory>(static_cast<size_t>(rows() * row_bytes), stream);
  memory_ = owned_.get();
  if (gaps == Gaps::kZero && row_stride_ != columns() && owned_->bytes()) driver::fill(owned_->data(), 0, owned_->bytes(), stream.handle());
}

void DeviceTensor::set_shape(std::vector<int64_t> shape) {
  shape_ = std::move(shape);
  is_vector_ = shape_.size() == 1;
  rows_ = is_vector_ ? 1 : shape_[0];
  columns_ = shape_.back();
}

DeviceTensor DeviceTensor::reshaped(std::vector<int64_t> shape) const {
  DeviceTensor view = *this;
  view.set_shape(std::move(shape));
  const bool ends_alike = row_stride_ == columns() && view.columns() * static_cast<int64_t>(size_of(type_)) % kRowAlignment == 0;
  if (view.columns() != columns() && !ends_alike) {
    throw Error(error_code::kUnsupportedSpec, "a tensor on the GPU of shape " + shape_text(shape_) + " cannot become " +
                                                  shape_text(view.shape_) + ": rows of both must be multiples of 16 bytes");
  }
  if (view.columns() != columns()) view.row_stride_ = view.columns();
  return view;
}

DeviceTensor DeviceTensor::slice(int64_t begin, int64_t end) const {
  DeviceTensor view = *this;
  view.shape_[0] = view.rows_ = end - begin;
  view.offset_ += begin * row_stride_ * static_cast<int64_t>(size_of(type_));
  return view;
}

DeviceTensor DeviceTensor::column_range(int64_t begin, int64_t end) const {
  DeviceTensor view = *this;
  view.shape_.back() = view.columns_ = end - begin;
  view.offset_ += begin * static_cast<int64_t>(size_of(type_));
  return view;
}

DeviceTensor upload(const Tensor& values, DeviceType type, const Stream& stream) {
  DeviceTensor floats(DeviceType::kFloat32, values.shape(), stream);
  upload_bytes(floats, values.data<uint8_t>(), stream);
  if (type == DeviceType::kFloat32) return floats;
  DeviceTensor rounded(type, values.shape(), stream);
  cast(floats, rounded, stream);
  return rounded;
}

void upload_bytes(const DeviceTensor& tensor, const uint8_t* bytes, const Stream& stream) {
  const size_t element = size_of(tensor.type());
  const size_t row_bytes = static_cast<size_t>(tensor.columns()) * element;
  copy_from_host(tensor.use_on<uint8_t>(stream), static_cast<size_t>(tensor.row_stride()) * element, bytes, row_bytes,
                 static_cast<size_t>(tensor.rows()), stream);
}

Tensor download(const DeviceTensor& tensor, const Stream& stream) {
  if (tensor.type() == DeviceType::kBFloat16 || tensor.type() == DeviceType::kFloat16) {
    DeviceTensor floats(DeviceType::kFloat32, tensor.shape(), stream);
    cast(tensor, floats, stream);
    return download(floats, stream);
  }
  const DType type = tensor.type() == DeviceType::kFloat32 ? DType::kFloat32
                     : tensor.type() == DeviceType::kInt8  ? DType::kInt8
                                                           : DType::kUint8;
  Tensor values(type, tensor.shape());
  const size_t element = size_of(tensor.type());
  const size_t row_bytes = static_cast<size_t>(tensor.columns()) * element;
  driver::copy_to_host(values.data<uint8_t>(), row_bytes, tensor.use_on<uint8_t>(stream),
                       static_cast<size_t>(tensor.row_stride()) * element, row_bytes, static_cast<size_t>(tensor.rows()),
                       stream.handle());
  return values;
}

}  // namespace usmlite::cuda
