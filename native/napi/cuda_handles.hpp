// JavaScript objects that own something of the GPU: a stream, a tensor, a weight.
#pragma once
#include <napi.h>

#include <memory>
#include <string>
#include <utility>

#include "cuda/device_tensor.hpp"
#include "cuda/device_weight.hpp"
#include "cuda/packed_sequences.hpp"
#include "cuda/recording.hpp"
#include "cuda/stream.hpp"
#include "napi/arguments.hpp"
#include "napi/environment.hpp"

namespace usmlite::binding {

/// What is said of a kind of object, how it is told from others, and where its constructor is kept.
template <typename T> struct GpuKind;
template <> struct GpuKind<cuda::Stream> {
  static constexpr const char* kName = "GPU stream";
  static constexpr napi_type_tag kTag = {0x1c8a4e7f92d04b3bull, 0x8f61d2a7c35e9b04ull};
  static constexpr auto kConstructor = &Environment::stream_constructor;
};
template <> struct GpuKind<cuda::DeviceTensor> {
  static constexpr const char* kName = "tensor on the GPU";
  static constexpr napi_type_tag kTag = {0x6be35a10f7d849c2ull, 0xa40c7d918e26f5b3ull};
  static constexpr auto kConstructor = &Environment::device_tensor_constructor;
};
template <> struct GpuKind<cuda::DeviceWeight> {
  static constexpr const char* kName = "weight on the GPU";
  static constexpr napi_type_tag kTag = {0x93f0d5be7a214c68ull, 0x95b7e34a1fd2086cull};
  static constexpr auto kConstructor = &Environment::device_weight_constructor;
};
template <> struct GpuKind<cuda::DeviceSequences> {
  static constexpr const char* kName = "set of sequences on the GPU";
  static constexpr napi_type_tag kTag = {0x4d0be8713fc2a695ull, 0xe72a50c94bd8361full};
  static constexpr auto kConstructor = &Environment::device_sequences_constructor;
};
template <> struct GpuKind<cuda::Recording> {
  static constexpr const char* kName = "recording of work of the GPU";
  static constexpr napi_type_tag kTag = {0x2f7d61c30b9e4a58ull, 0xb81c05e6d3f74a92ull};
  static constexpr auto kConstructor = &Environment::recording_constructor;
};

template <typename T> class GpuHandle : public Napi::ObjectWrap<GpuHandle<T>> {
  using Base = Napi::ObjectWrap<GpuHandle<T>>;

 public:
  static void define(Napi::Env env, Napi::Object exports, const char* name) {
    Napi::Function constructor = Base::DefineClass(
        env, name,
        {Base::template InstanceAccessor<&GpuHandle::is_released>("released"),
         Base::template InstanceMethod<&GpuHandle::release>("release")});
    env.GetInstanceData<Environment>()->*GpuKind<T>::kConstructor = Napi::Persistent(constructor);
    exports.Set(name, constructor);
  }
  static Napi::Object wrap(Napi::Env env, std::shared_ptr<T> object) {
    Napi::Object handle = (env.GetInstanceData<Environment>()->*GpuKind<T>::kConstructor).New({});
    Base::Unwrap(handle)->object_ = std::move(object);
    return handle;
  }
  /// The object behind argument `index`. Throws INVALID_ARGUMENT or TENSOR_RELEASED.
  static std::shared_ptr<T> from(const Arguments& arguments, Napi::Value value, const std::string& name) {
    bool tagged = false;
    if (!value.IsObject() || napi_check_object_type_tag(value.Env(), value, &GpuKind<T>::kTag, &tagged) != napi_ok || !tagged) {
      arguments.fail(name + " must be a " + GpuKind<T>::kName);
    }
    std::shared_ptr<T> object = Base::Unwrap(value.As<Napi::Object>())->object_;
    if (!object) {
      throw Error(error_code::kTensorReleased,
                  name + ", a " + GpuKind<T>::kName + ", was disposed of; keep it while it is used");
    }
    return object;
  }

  explicit GpuHandle(const Napi::CallbackInfo& info) : Base(info) {
    napi_type_tag_object(info.Env(), info.This(), &GpuKind<T>::kTag);
  }

 private:
  Napi::Value is_released(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), object_ == nullptr); }
  // Releasing twice is allowed.
  Napi::Value release(const Napi::CallbackInfo& info) {
    object_.reset();
    return info.Env().Undefined();
  }

  std::shared_ptr<T> object_;
};

using StreamObject = GpuHandle<cuda::Stream>;
using DeviceTensorObject = GpuHandle<cuda::DeviceTensor>;
using DeviceWeightObject = GpuHandle<cuda::DeviceWeight>;
using DeviceSequencesObject = GpuHandle<cuda::DeviceSequences>;
using RecordingObject = GpuHandle<cuda::Recording>;

/// The stream at argument `index`, or the default one where that is absent.
inline std::shared_ptr<cuda::Stream> stream_argument(const Arguments& arguments, const Napi::CallbackInfo& info, size_t index) {
  return arguments.has(index) ? StreamObject::from(arguments, info[index], "stream") : cuda::default_stream();
}

inline Napi::Object wrap(Napi::Env env, cuda::DeviceTensor tensor) {
  return DeviceTensorObject::wrap(env, std::make_shared<cuda::DeviceTensor>(std::move(tensor)));
}

}  // namespace usmlite::binding
