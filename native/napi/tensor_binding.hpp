// The JavaScript object that owns a native tensor.
#pragma once
#include <napi.h>

#include "core/tensor.hpp"

namespace usmlite::binding {

class TensorHandle : public Napi::ObjectWrap<TensorHandle> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  /// A new handle that owns `tensor`.
  static Napi::Object wrap(Napi::Env env, Tensor tensor);
  /// The handle behind `value`, or null when it is anything else.
  static TensorHandle* from(Napi::Value value);

  explicit TensorHandle(const Napi::CallbackInfo& info);

  bool released() const { return tensor_.storage() == nullptr; }
  const Tensor& tensor() const { return tensor_; }

 private:
  Napi::Value is_released(const Napi::CallbackInfo& info);
  Napi::Value release(const Napi::CallbackInfo& info);

  Tensor tensor_;
};

/// Registers creation, copying and viewing of tensors.
void define_tensor(Napi::Env env, Napi::Object exports);

}  // namespace usmlite::binding
