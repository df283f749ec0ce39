#include "napi/arguments.hpp"

#include <charconv>
#include <cmath>

#include "napi/environment.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {

namespace {

// As people write it: 3 and 100000, not 3.000000 and 1e+05.
std::string shortest(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return std::to_string(static_cast<int64_t>(value));
  char digits[32];
  return std::string(digits, std::to_chars(digits, digits + sizeof(digits), value).ptr);
}

}  // namespace

Arguments::Arguments(const Napi::CallbackInfo& info, const char* function, size_t minimum)
    : info_(info), function_(function) {
  if (info.Length() < minimum) {
    fail("needs " + std::to_string(minimum) + " arguments but got " + std::to_string(info.Length()));
  }
}

void Arguments::fail(const std::string& sentence) const {
  throw Error(error_code::kInvalidArgument, function_ + ": " + sentence);
}

bool Arguments::has(size_t index) const {
  return index < info_.Length() && !info_[index].IsUndefined() && !info_[index].IsNull();
}

const Tensor& Arguments::checked(Napi::Value value, const std::string& name) const {
  TensorHandle* handle = TensorHandle::from(value);
  if (!handle) fail(name + " must be a tensor");
  if (handle->released()) {
    throw Error(error_code::kTensorReleased,
                function_ + ": " + name + " was released; keep it alive with scope.keep() or return it from tidy()");
  }
  return handle->tensor();
}

void Arguments::check_type(const Tensor& tensor, const std::string& name, DType dtype,
                           std::initializer_list<int64_t> shape) const {
  if (tensor.dtype() != dtype) {
    fail(name + " must be " + name_of(dtype) + " but is " + name_of(tensor.dtype()));
  }
  if (shape.size() == 0) return;
  bool matches = static_cast<size_t>(tensor.rank()) == shape.size();
  std::string wanted = "(";
  size_t axis = 0;
  for (int64_t extent : shape) {
    wanted += (axis ? ", " : "") + (extent == kAny ? std::string("any") : std::to_string(extent));
    if (matches && extent != kAny && tensor.shape()[axis] != extent) matches = false;
    ++axis;
  }
  if (!matches) fail(name + " must have shape " + wanted + ") but has " + shape_text(tensor.shape()));
}

const Tensor& Arguments::any_tensor(size_t index, const char* name) const { return checked(info_[index], name); }

const Tensor& Arguments::tensor(size_t index, const char* name, DType dtype,
                                std::initializer_list<int64_t> shape) const {
  const Tensor& tensor = checked(info_[index], name);
  check_type(tensor, name, dtype, shape);
  return tensor;
}

const Tensor* Arguments::optional_tensor(size_t index, const char* name, DType dtype,
                                         std::initializer_list<int64_t> shape) const {
  return has(index) ? &tensor(index, name, dtype, shape) : nullptr;
}

std::vector<Tensor> Arguments::tensors(size_t index, const char* name, DType dtype) const {
  if (!info_[index].IsArray()) fail(std::string(name) + " must be an array of tensors");
  Napi::Array array = info_[index].As<Napi::Array>();
  std::vector<Tensor> result;
  result.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const std::string element = std::string(name) + "[" + std::to_string(i) + "]";
    const Tensor& tensor = checked(array.Get(i), element);
    check_type(tensor, element, dtype, {});
    result.push_back(tensor);
  }
  return result;
}

double Arguments::number(size_t index, const char* name, double low, double high) const {
  if (!info_[index].IsNumber()) fail(std::string(name) + " must be a number");
  const double value = info_[index].As<Napi::Number>().DoubleValue();
  if (!(value >= low && value <= high)) {
    fail(std::string(name) + " is " + shortest(value) + "; it must be between " + shortest(low) + " and " + shortest(high));
  }
  return value;
}

int64_t Arguments::integer(size_t index, const char* name, int64_t low, int64_t high) const {
  const double value = number(index, name, static_cast<double>(low), static_cast<double>(high));
  if (value != std::floor(value)) fail(std::string(name) + " must be a whole number");
  return static_cast<int64_t>(value);
}

uint64_t Arguments::seed(size_t index) const {
  return static_cast<uint64_t>(integer(index, "seed", 0, (int64_t{1} << 53) - 1));
}

Dropout Arguments::dropout(size_t index) const {
  const double probability = number(index, "dropout probability", 0.0, 1.0);
  if (probability == 1.0) fail("the dropout probability must be below 1");
  return {probability, seed(index + 1)};
}

bool Arguments::boolean(size_t index, const char* name) const {
  if (!info_[index].IsBoolean()) fail(std::string(name) + " must be true or false");
  return info_[index].As<Napi::Boolean>().Value();
}

std::string Arguments::text(size_t index, const char* name) const {
  if (!info_[index].IsString()) fail(std::string(name) + " must be a string");
  return info_[index].As<Napi::String>().Utf8Value();
}

std::vector<int64_t> Arguments::integers(size_t index, const char* name, int64_t low, int64_t high) const {
  if (!info_[index].IsArray()) fail(std::string(name) + " must be an array of whole numbers");
  Napi::Array array = info_[index].As<Napi::Array>();
  std::vector<int64_t> result;
  result.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i) {
    Napi::Value element = array.Get(i);
    const double value = element.IsNumber() ? element.As<Napi::Number>().DoubleValue() : std::nan("");
    if (!(value >= static_cast<double>(low) && value <= static_cast<double>(high)) || value != std::floor(value)) {
      fail(std::string(name) + "[" + std::to_string(i) + "] must be a whole number between " + std::to_string(low) +
           " and " + std::to_string(high));
    }
    result.push_back(static_cast<int64_t>(value));
  }
  return result;
}

Arguments::Bytes Arguments::bytes(size_t index, const char* name) const {
  if (!info_[index].IsTypedArray()) fail(std::string(name) + " must be a typed array");
  // Napi::ArrayBuffer refuses what lies in a SharedArrayBuffer; this does not ask where it lies.
  void* data = nullptr;
  if (napi_get_typedarray_info(info_.Env(), info_[index], nullptr, nullptr, &data, nullptr, nullptr) != napi_ok) {
    fail(std::string(name) + " must be a typed array");
  }
  return {static_cast<const uint8_t*>(data), info_[index].As<Napi::TypedArray>().ByteLength()};
}

const Tensor& Arguments::offsets(size_t index, const char* name, int64_t frames) const {
  const Tensor& offsets = tensor(index, name, DType::kInt32, {kAny});
  const int32_t* values = offsets.i32();
  const int64_t count = offsets.count();
  if (count < 2 || values[0] != 0 || values[count - 1] != frames) {
    fail(std::string(name) + " must begin with 0 and end with the number of frames, " + std::to_string(frames));
  }
  for (int64_t i = 1; i < count; ++i) {
    if (values[i] < values[i - 1]) fail(std::string(name) + " must never decrease");
  }
  return offsets;
}

void throw_javascript_error(Napi::Env env, const char* code, const std::string& message) {
  Environment* environment = env.GetInstanceData<Environment>();
  if (environment && !environment->error_constructor.IsEmpty()) {
    Napi::Object error = environment->error_constructor.New(
        {Napi::String::New(env, code), Napi::String::New(env, message)});
    throw Napi::Error(env, error);
  }
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  throw error;
}

}  // namespace usmlite::binding
