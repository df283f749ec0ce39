// JavaScript objects that own something native which is shared: one class, a kind for each sort of thing.
#pragma once
#include <napi.h>

#include <memory>
#include <string>
#include <utility>

#include "napi/arguments.hpp"
#include "napi/environment.hpp"

namespace usmlite::binding {

/// What is said of a kind of object (kName), how it is told from others (kTag), and where its constructor is kept (kConstructor).
template <typename T> struct HandleKind;

template <typename T> class ObjectHandle : public Napi::ObjectWrap<ObjectHandle<T>> {
  using Base = Napi::ObjectWrap<ObjectHandle<T>>;

 public:
  static void define(Napi::Env env, Napi::Object exports, const char* name) {
    Napi::Function constructor = Base::DefineClass(
        env, name,
        {Base::template InstanceAccessor<&ObjectHandle::is_released>("released"),
         Base::template InstanceMethod<&ObjectHandle::release>("release")});
    env.GetInstanceData<Environment>()->*HandleKind<T>::kConstructor = Napi::Persistent(constructor);
    exports.Set(name, constructor);
  }
  static Napi::Object wrap(Napi::Env env, std::shared_ptr<T> object) {
    Napi::Object handle = (env.GetInstanceData<Environment>()->*HandleKind<T>::kConstructor).New({});
    Base::Unwrap(handle)->object_ = std::move(object);
    return handle;
  }
  /// The object behind `value`. Throws INVALID_ARGUMENT or TENSOR_RELEASED.
  static std::shared_ptr<T> from(const Arguments& arguments, Napi::Value value, const std::string& name) {
    bool tagged = false;
    if (!value.IsObject() || napi_check_object_type_tag(value.Env(), value, &HandleKind<T>::kTag, &tagged) != napi_ok || !tagged) {
      arguments.fail(name + " must be a " + HandleKind<T>::kName);
    }
    std::shared_ptr<T> object = Base::Unwrap(value.As<Napi::Object>())->object_;
    if (!object) {
      throw Error(error_code::kTensorReleased,
                  name + ", a " + HandleKind<T>::kName + ", was disposed of; keep it while it is used");
    }
    return object;
  }

  explicit ObjectHandle(const Napi::CallbackInfo& info) : Base(info) {
    napi_type_tag_object(info.Env(), info.This(), &HandleKind<T>::kTag);
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

}  // namespace usmlite::binding
