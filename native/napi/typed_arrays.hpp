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
  static constexpr const char* kName = "an Int32Array";
};
template <> struct ElementType<uint8_t> {
  static constexpr napi_typedarray_type kType = napi_uint8_array;
  static constexpr const char* kName = "a Uint8Array";
};
template <> struct ElementType<float> {
  static constexpr napi_typedarray_type kType = napi_float32_array;
  static constexpr const char* kName = "a Float32Array";
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

template <typename T> Napi::TypedArrayOf<T> array_from(Napi::Env env, const std::vector<T>& values) {
  auto array = Napi::TypedArrayOf<T>::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

}  // namespace usmlite::binding
