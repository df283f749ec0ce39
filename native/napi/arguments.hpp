// Checked access to the arguments of a binding: after these guards the kernels may trust every pointer and size.
#pragma once
#include <napi.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "core/dropout.hpp"
#include "core/error.hpp"
#include "core/tensor.hpp"

namespace usmlite::binding {

/// In an expected shape: any extent.
inline constexpr int64_t kAny = -1;

class Arguments {
 public:
  /// Throws INVALID_ARGUMENT when fewer than `minimum` arguments were passed.
  Arguments(const Napi::CallbackInfo& info, const char* function, size_t minimum);

  Napi::Env env() const { return info_.Env(); }
  bool has(size_t index) const;  // present and neither undefined nor null

  /// A live tensor of the given type and shape (kAny matches any extent). An empty shape list means any shape.
  const Tensor& tensor(size_t index, const char* name, DType dtype, std::initializer_list<int64_t> shape = {}) const;
  /// The same, or null when the argument is absent.
  const Tensor* optional_tensor(size_t index, const char* name, DType dtype,
                                std::initializer_list<int64_t> shape = {}) const;
  /// Any live tensor.
  const Tensor& any_tensor(size_t index, const char* name) const;
  /// An array of live tensors of one type.
  std::vector<Tensor> tensors(size_t index, const char* name, DType dtype) const;

  double number(size_t index, const char* name, double low, double high) const;
  int64_t integer(size_t index, const char* name, int64_t low, int64_t high) const;
  uint64_t seed(size_t index) const;  // a non-negative safe integer
  Dropout dropout(size_t index) const;  // a probability in [0, 1), then a seed
  bool boolean(size_t index, const char* name) const;
  std::string text(size_t index, const char* name) const;
  std::vector<int64_t> integers(size_t index, const char* name, int64_t low, int64_t high) const;
  /// The bytes of an ArrayBuffer view (Uint8Array, Float32Array, Buffer..); valid during the call.
  struct Bytes { const uint8_t* data; size_t size; };
  Bytes bytes(size_t index, const char* name) const;

  /// Offsets (sequences + 1) of packed sequences: begin with 0, never decrease, end with `frames`.
  const Tensor& offsets(size_t index, const char* name, int64_t frames) const;

  [[noreturn]] void fail(const std::string& sentence) const;

 private:
  const Tensor& checked(Napi::Value value, const std::string& name) const;
  void check_type(const Tensor& tensor, const std::string& name, DType dtype,
                  std::initializer_list<int64_t> shape) const;
  const Napi::CallbackInfo& info_;
  std::string function_;
};

/// Registers `Function` under `name`; usmlite::Error becomes a JavaScript UsmLiteError with its code.
template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info);

[[noreturn]] void throw_javascript_error(Napi::Env env, const char* code, const std::string& message);

template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return Function(info);
  } catch (const Error& error) {
    throw_javascript_error(info.Env(), error.code(), error.what());
  } catch (const std::bad_alloc&) {
    throw_javascript_error(info.Env(), error_code::kOutOfMemory, "the process is out of memory");
  }
}

template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
void define(Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New(exports.Env(), guarded<Function>, name));
}

}  // namespace usmlite::binding
