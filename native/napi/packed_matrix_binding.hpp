// The JavaScript object that refers to a packed matrix. The matrix itself is shared by all workers of the process.
#pragma once
#include <napi.h>

#include <memory>

#include "codec/packed_matrix.hpp"
#include "napi/arguments.hpp"

namespace usmlite::binding {

class PackedMatrixHandle : public Napi::ObjectWrap<PackedMatrixHandle> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  static Napi::Object wrap(Napi::Env env, std::shared_ptr<const codec::PackedMatrix> matrix);
  /// The matrix behind argument `index`, kept alive by the result. Throws INVALID_ARGUMENT or TENSOR_RELEASED.
  static std::shared_ptr<const codec::PackedMatrix> from(const Arguments& arguments, Napi::Value value);

  explicit PackedMatrixHandle(const Napi::CallbackInfo& info);

 private:
  Napi::Value describe(const Napi::CallbackInfo& info);
  Napi::Value is_released(const Napi::CallbackInfo& info);
  Napi::Value release(const Napi::CallbackInfo& info);

  std::shared_ptr<const codec::PackedMatrix> matrix_;
};

}  // namespace usmlite::binding
