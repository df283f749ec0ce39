// Several tensors returned to JavaScript as an array; tensors that were not asked for are undefined.
#pragma once
#include <napi.h>

#include <initializer_list>

#include "core/tensor.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {

/// A tensor without storage becomes undefined.
inline Napi::Value wrap_all(Napi::Env env, std::initializer_list<Tensor> tensors) {
  Napi::Array array = Napi::Array::New(env, tensors.size());
  uint32_t index = 0;
  for (const Tensor& tensor : tensors) {
    if (tensor.storage()) array.Set(index, TensorHandle::wrap(env, tensor));
    ++index;
  }
  return array;
}

/// A float32 tensor when `wanted`, none otherwise.
inline Tensor tensor_if(bool wanted, const std::vector<int64_t>& shape) {
  return wanted ? Tensor(DType::kFloat32, shape) : Tensor();
}

inline float* data_or_null(const Tensor& tensor) { return tensor.storage() ? tensor.f32() : nullptr; }
inline const float* data_or_null(const Tensor* tensor) { return tensor ? tensor->f32() : nullptr; }

}  // namespace usmlite::binding
