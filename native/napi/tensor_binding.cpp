#include "napi/tensor_binding.hpp"

#include <cstring>

#include "napi/arguments.hpp"
#include "napi/environment.hpp"
#include "napi/tensor_description.hpp"

namespace usmlite::binding {
namespace {

constexpr napi_type_tag kTensorTag = {0x7d1f0c54a3b94e21ull, 0x9be2c6aa50f7d318ull};
constexpr int64_t kMaximumExtent = int64_t{1} << 40;

DType dtype_from(const Arguments& arguments, size_t index) {
  const std::string name = arguments.text(index, "dtype");
  for (DType dtype : {DType::kFloat32, DType::kInt32, DType::kInt8, DType::kUint8}) {
    if (name == name_of(dtype)) return dtype;
  }
  arguments.fail("dtype \"" + name + "\" is unknown; choose float32, int32, int8 or uint8");
}

std::vector<int64_t> shape_from(const Arguments& arguments, size_t index) {
  std::vector<int64_t> shape = arguments.integers(index, "shape", 0, kMaximumExtent);
  int64_t count = 1;
  for (int64_t extent : shape) {
    if (__builtin_mul_overflow(count, extent, &count) || count > kMaximumExtent) {
      arguments.fail("shape " + shape_text(shape) + " holds more elements than memory can");
    }
  }
  return shape;
}

// create(shape, dtype, fill?): filled with zeros, with a number, or with the bytes of a typed array.
Napi::Value create_tensor(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "Tensor.create", 2);
  Tensor tensor(dtype_from(arguments, 1), shape_from(arguments, 0));
  if (arguments.has(2) && info[2].IsTypedArray()) {
    const auto bytes = arguments.bytes(2, "values");
    if (bytes.size != tensor.bytes()) {
      arguments.fail("values hold " + std::to_string(bytes.size) + " bytes but shape " + shape_text(tensor.shape()) +
                     " of " + name_of(tensor.dtype()) + " needs " + std::to_string(tensor.bytes()));
    }
    if (bytes.size > 0) std::memcpy(tensor.data<char>(), bytes.data, bytes.size);  // an empty array may have no memory
  } else {
    std::memset(tensor.data<char>(), 0, tensor.bytes());
  }
  return TensorHandle::wrap(info.Env(), std::move(tensor));
}

// read(tensor, destination): copies the values into a typed array of the same number of bytes.
Napi::Value read(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "Tensor.read", 2);
  const Tensor& tensor = arguments.any_tensor(0, "tensor");
  const auto bytes = arguments.bytes(1, "destination");
  if (bytes.size != tensor.bytes()) arguments.fail("destination has another size than the tensor");
  if (bytes.size > 0) std::memcpy(const_cast<uint8_t*>(bytes.data), tensor.data<char>(), bytes.size);
  return info.Env().Undefined();
}

// write(tensor, source): overwrites the values, in place, with those of a typed array.
Napi::Value write(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "Tensor.write", 2);
  const Tensor& tensor = arguments.any_tensor(0, "tensor");
  const auto bytes = arguments.bytes(1, "source");
  if (bytes.size != tensor.bytes()) arguments.fail("source has another size than the tensor");
  if (bytes.size > 0) std::memcpy(tensor.data<char>(), bytes.data, bytes.size);
  return info.Env().Undefined();
}

// describe(tensor, numbers): writes its type, as the index of a list, its bytes and axes into a Float64Array. Every tensor is asked once, and an
// object with names would take as long to make as many operations.
Napi::Value describe_tensor(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "Tensor.describe", 2);
  const Tensor& tensor = arguments.any_tensor(0, "tensor");
  write_description(arguments, 1, static_cast<int>(tensor.dtype()), tensor.bytes(), tensor.shape());
  return info.Env().Undefined();
}

// view(tensor, shape, firstRow): `shape` of the same storage, starting at a row of the first axis.
Napi::Value view(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "Tensor.view", 3);
  const Tensor& tensor = arguments.any_tensor(0, "tensor");
  std::vector<int64_t> shape = shape_from(arguments, 1);
  const int64_t first_row = arguments.integer(2, "firstRow", 0, kMaximumExtent);
  const int64_t rows = tensor.rank() ? tensor.dim(0) : 1;
  const size_t row_bytes = rows ? tensor.bytes() / static_cast<size_t>(rows) : 0;
  const size_t begin = static_cast<size_t>(first_row) * row_bytes;
  Tensor viewed(tensor.dtype(), shape, tensor.storage(), tensor.offset() + begin);
  if (first_row > rows || begin + viewed.bytes() > tensor.bytes()) {
    arguments.fail("shape " + shape_text(shape) + " from row " + std::to_string(first_row) + " does not fit in " +
                   shape_text(tensor.shape()));
  }
  return TensorHandle::wrap(info.Env(), std::move(viewed));
}

}  // namespace

TensorHandle::TensorHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TensorHandle>(info) {
  napi_type_tag_object(info.Env(), info.This(), &kTensorTag);
}

void TensorHandle::define(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(env, "TensorHandle",
                                           {InstanceAccessor<&TensorHandle::is_released>("released"),
                                            InstanceMethod<&TensorHandle::release>("release")});
  env.GetInstanceData<Environment>()->tensor_constructor = Napi::Persistent(constructor);
  exports.Set("TensorHandle", constructor);
}

Napi::Object TensorHandle::wrap(Napi::Env env, Tensor tensor) {
  Napi::Object object = env.GetInstanceData<Environment>()->tensor_constructor.New({});
  Unwrap(object)->tensor_ = std::move(tensor);
  return object;
}

TensorHandle* TensorHandle::from(Napi::Value value) {
  if (!value.IsObject()) return nullptr;
  bool tagged = false;
  if (napi_check_object_type_tag(value.Env(), value, &kTensorTag, &tagged) != napi_ok || !tagged) return nullptr;
  return Unwrap(value.As<Napi::Object>());
}

Napi::Value TensorHandle::is_released(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), released());
}

// Gives the memory back now; views of it stay valid. Releasing twice is allowed.
Napi::Value TensorHandle::release(const Napi::CallbackInfo& info) {
  tensor_ = Tensor();
  return info.Env().Undefined();
}

void define_tensor(Napi::Env env, Napi::Object exports) {
  TensorHandle::define(env, exports);
  binding::define<create_tensor>(exports, "tensorCreate");
  binding::define<read>(exports, "tensorRead");
  binding::define<write>(exports, "tensorWrite");
  binding::define<view>(exports, "tensorView");
  binding::define<describe_tensor>(exports, "tensorDescribe");
}

}  // namespace usmlite::binding
