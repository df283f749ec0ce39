// JavaScript objects that own something of the GPU: a stream, a tensor, a weight.
#pragma once
#include <memory>
#include <utility>
#include <vector>

#include "cuda/device_tensor.hpp"
#include "cuda/device_weight.hpp"
#include "cuda/device_sequences.hpp"
#include "cuda/pinned_memory.hpp"
#include "cuda/recording.hpp"
#include "cuda/stream.hpp"
#include "napi/object_handle.hpp"

namespace usmlite::binding {

template <> struct HandleKind<cuda::Stream> {
  static constexpr const char* kName = "GPU stream";
  static constexpr napi_type_tag kTag = {0x1c8a4e7f92d04b3bull, 0x8f61d2a7c35e9b04ull};
  static constexpr auto kConstructor = &Environment::stream_constructor;
};
template <> struct HandleKind<cuda::DeviceTensor> {
  static constexpr const char* kName = "tensor on the GPU";
  static constexpr napi_type_tag kTag = {0x6be35a10f7d849c2ull, 0xa40c7d918e26f5b3ull};
  static constexpr auto kConstructor = &Environment::device_tensor_constructor;
};
template <> struct HandleKind<cuda::DeviceWeight> {
  static constexpr const char* kName = "weight on the GPU";
  static constexpr napi_type_tag kTag = {0x93f0d5be7a214c68ull, 0x95b7e34a1fd2086cull};
  static constexpr auto kConstructor = &Environment::device_weight_constructor;
};
template <> struct HandleKind<cuda::DeviceSequences> {
  static constexpr const char* kName = "set of sequences on the GPU";
  static constexpr napi_type_tag kTag = {0x4d0be8713fc2a695ull, 0xe72a50c94bd8361full};
  static constexpr auto kConstructor = &Environment::device_sequences_constructor;
};
template <> struct HandleKind<cuda::Recording> {
  static constexpr const char* kName = "recording of work of the GPU";
  static constexpr napi_type_tag kTag = {0x2f7d61c30b9e4a58ull, 0xb81c05e6d3f74a92ull};
  static constexpr auto kConstructor = &Environment::recording_constructor;
};

template <> struct HandleKind<cuda::driver::Event> {
  static constexpr const char* kName = "event of the GPU";
  static constexpr napi_type_tag kTag = {0x7a9e02d4c18b5f63ull, 0xd36f84a1527c0be9ull};
  static constexpr auto kConstructor = &Environment::event_constructor;
};
template <> struct HandleKind<cuda::PinnedMemory> {
  static constexpr const char* kName = "pinned buffer";
  static constexpr napi_type_tag kTag = {0x0e5c93b7d64f218aull, 0x81fa6d3e90c7b245ull};
  static constexpr auto kConstructor = &Environment::pinned_memory_constructor;
};

using StreamObject = ObjectHandle<cuda::Stream>;
using DeviceTensorObject = ObjectHandle<cuda::DeviceTensor>;
using DeviceWeightObject = ObjectHandle<cuda::DeviceWeight>;
using DeviceSequencesObject = ObjectHandle<cuda::DeviceSequences>;
using RecordingObject = ObjectHandle<cuda::Recording>;
using EventObject = ObjectHandle<cuda::driver::Event>;
using PinnedMemoryObject = ObjectHandle<cuda::PinnedMemory>;

/// The stream at argument `index`, or the default one where that is absent.
inline cuda::Stream stream_argument(const Arguments& arguments, const Napi::CallbackInfo& info, size_t index) {
  return arguments.has(index) ? *StreamObject::from(arguments, info[index], "stream") : cuda::default_stream();
}

/// The names of the whole numbers that activations are rounded to.
inline constexpr std::pair<const char*, cuda::RowCodes> kIntegerActivations[] = {
    {"int8", cuda::RowCodes::kInt8}, {"int8-asymmetric", cuda::RowCodes::kInt8Asymmetric}, {"int4", cuda::RowCodes::kInt4}};

inline cuda::RowCodes integer_activations_argument(const Arguments& arguments, size_t index) {
  const std::string name = arguments.text(index, "activations");
  for (const auto& [known, codes] : kIntegerActivations) {
    if (name == known) return codes;
  }
  arguments.fail("activations \"" + name + "\" are not multiplied in whole numbers on the GPU; choose int8, int8-asymmetric or int4");
}
inline const char* name_of_integer_activations(cuda::RowCodes codes) {
  for (const auto& [name, known] : kIntegerActivations) {
    if (codes == known) return name;
  }
  return "unknown";
}

inline Napi::Object wrap(Napi::Env env, cuda::DeviceTensor tensor) {
  return DeviceTensorObject::wrap(env, std::make_shared<cuda::DeviceTensor>(std::move(tensor)));
}

/// An array of tensors; those that are null are undefined.
inline Napi::Value wrap_all(Napi::Env env, const std::vector<const cuda::DeviceTensor*>& tensors) {
  Napi::Array results = Napi::Array::New(env, tensors.size());
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    results.Set(i, tensors[i] ? static_cast<Napi::Value>(wrap(env, *tensors[i])) : env.Undefined());
  }
  return results;
}

}  // namespace usmlite::binding
