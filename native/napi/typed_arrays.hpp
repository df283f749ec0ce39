// Typed arrays of JavaScript that hold numbers of one kind.
#pragma once
#include <napi.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "napi/arguments.hpp"

namespace usmlite::binding {

template <typename T> struct ElementType;
template <> struct ElementType<int32_t> {
  static constexpr napi_typedarray_type kType = napi_int32_array;
  static constexpr const char *kConstructor = "Int32Array", *kName = "an Int32Array";
};
template <> struct ElementType<uint8_t> {
  static constexpr napi_typedarray_type kType = napi_uint8_array;
  static constexpr const char *kConstructor = "Uint8Array", *kName = "a Uint8Array";
};
template <> struct ElementType<float> {
  static constexpr napi_typedarray_type kType = napi_float32_array;
  static constexpr const char *kConstructor = "Float32Array", *kName = "a Float32Array";
};

template <typename T> Napi::TypedArrayOf<T> array_of(const Arguments& arguments, Napi::Value value, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != ElementType<T>::kType) {
    arguments.fail(std::string(name) + " must be " + ElementType<T>::kName);
  }
  return value.As<Napi::TypedArrayOf<T>>();
}

/// Its numbers, valid during the call.
template <typename T> std::span<const T> numbers_of(const Arguments& arguments, Napi::Value value, const char* name) {
  const auto array = array_of<T>(arguments, value, name);
  return {array.Data(), array.ElementLength()};
}

/// Zeros. napi_create_arraybuffer ends the process when there is no room for them; JavaScript's own constructor throws.
/// `what`: of which there are `count`, and what to do about it.
template <typename T> Napi::TypedArrayOf<T> new_array(Napi::Env env, size_t count, const char* what) {
  try {
    const Napi::Value length = Napi::Number::New(env, static_cast<double>(count));
    return env.Global().Get(ElementType<T>::kConstructor).template As<Napi::Function>().New({length}).template As<Napi::TypedArrayOf<T>>();
  } catch (const Napi::Error&) {
    throw Error(error_code::kOutOfMemory, "no room for " + std::to_string(count) + " " + what);
  }
}

/// `what` as in new_array.
template <typename T> Napi::TypedArrayOf<T> array_from(Napi::Env env, const std::vector<T>& values, const char* what) {
  auto array = new_array<T>(env, values.size(), what);
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

}  // namespace usmlite::binding
