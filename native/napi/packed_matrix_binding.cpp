#include "napi/packed_matrix_binding.hpp"

#include <string>
#include <utility>

#include "codec/pack.hpp"
#include "codec/rounded_weight.hpp"
#include "napi/codec_arguments.hpp"
#include "napi/environment.hpp"
#include "napi/groups.hpp"
#include "napi/shared_objects.hpp"

namespace usmlite::binding {
namespace {

constexpr napi_type_tag kPackedMatrixTag = {0x52e1a9d7c04b4f6aull, 0xb3d80e75f19c2a46ull};

using SharedMatrices = SharedObjects<const codec::PackedMatrix>;

// packedMatrixCreate(spec, rows, columns, packed, scale?, mask?, zeroPoint?, scaleSteps?)
Napi::Value create(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "PackedMatrix.create", 4);
  return PackedMatrixHandle::wrap(info.Env(), std::make_shared<codec::PackedMatrix>(packed_argument(arguments, 0)));
}

// packedMatrixRound(spec, weight (rows, columns), mask?, scale, zeroPoint?): rounded to the nearest levels
Napi::Value round(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "PackedMatrix.round", 4);
  const codec::WeightSpec spec = codec::parse_weight_spec(arguments.text(0, "spec"));
  const Tensor& weight = arguments.tensor(1, "weight", DType::kFloat32, {kAny, kAny});
  const int64_t rows = weight.dim(0), columns = weight.dim(1);
  const Tensor* mask = arguments.optional_tensor(2, "mask", DType::kUint8, {rows, columns});
  const Tensor& scale = arguments.tensor(3, "scale", DType::kFloat32, {rows, spec.scales_per_row(columns)});
  const Tensor* zero_point = arguments.optional_tensor(4, "zeroPoint", DType::kFloat32, {rows, spec.scales_per_row(columns)});
  if (spec.has_zero_points() && !zero_point) arguments.fail(codec::to_text(spec) + " needs zero points beside its scales");
  const Tensor used = packed_scales(spec, scale);
  const codec::RoundedWeight rounded(spec, rows, columns, weight.f32(), mask ? mask->data<uint8_t>() : nullptr, used.f32(),
                                     zero_point ? zero_point->f32() : nullptr);
  return PackedMatrixHandle::wrap(info.Env(), std::make_shared<codec::PackedMatrix>(rounded));
}

// packedMatrixShare(matrix): the number under which any worker of this process finds it
Napi::Value share(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "PackedMatrix.share", 1);
  return Napi::Number::New(info.Env(), static_cast<double>(SharedMatrices::all().share(PackedMatrixHandle::from(arguments, info[0]))));
}

// packedMatrixFromShared(number)
Napi::Value from_shared(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "PackedMatrix.fromShared", 1);
  const int64_t id = arguments.integer(0, "id", 0, (int64_t{1} << 53) - 1);
  auto matrix = SharedMatrices::all().find(static_cast<uint64_t>(id));
  if (!matrix) {
    arguments.fail("no packed matrix is shared as " + std::to_string(id) +
                   "; whoever shares one must keep it until all workers have it");
  }
  return PackedMatrixHandle::wrap(info.Env(), std::move(matrix));
}

}  // namespace

PackedMatrixHandle::PackedMatrixHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<PackedMatrixHandle>(info) {
  napi_type_tag_object(info.Env(), info.This(), &kPackedMatrixTag);
}

void PackedMatrixHandle::define(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(env, "PackedMatrixHandle",
                                           {InstanceMethod<&PackedMatrixHandle::describe>("describe"),
                                            InstanceAccessor<&PackedMatrixHandle::is_released>("released"),
                                            InstanceMethod<&PackedMatrixHandle::release>("release")});
  env.GetInstanceData<Environment>()->packed_matrix_constructor = Napi::Persistent(constructor);
  exports.Set("PackedMatrixHandle", constructor);
}

Napi::Object PackedMatrixHandle::wrap(Napi::Env env, std::shared_ptr<const codec::PackedMatrix> matrix) {
  Napi::Object object = env.GetInstanceData<Environment>()->packed_matrix_constructor.New({});
  Unwrap(object)->matrix_ = std::move(matrix);
  return object;
}

std::shared_ptr<const codec::PackedMatrix> PackedMatrixHandle::from(const Arguments& arguments, Napi::Value value) {
  bool tagged = false;
  if (!value.IsObject() || napi_check_object_type_tag(value.Env(), value, &kPackedMatrixTag, &tagged) != napi_ok || !tagged) {
    arguments.fail("the weight must be a packed matrix");
  }
  auto matrix = Unwrap(value.As<Napi::Object>())->matrix_;
  if (!matrix) throw Error(error_code::kTensorReleased, "the packed matrix was disposed of; keep it while it is used");
  return matrix;
}

Napi::Value PackedMatrixHandle::describe(const Napi::CallbackInfo& info) {
  if (!matrix_) return info.Env().Undefined();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("spec", codec::to_text(matrix_->spec()));
  result.Set("rows", static_cast<double>(matrix_->rows()));
  result.Set("columns", static_cast<double>(matrix_->columns()));
  result.Set("residentBytes", static_cast<double>(matrix_->resident_bytes()));
  return result;
}

Napi::Value PackedMatrixHandle::is_released(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), matrix_ == nullptr);
}

// Lets go of the matrix; its memory is given back when the last handle of the process has. Releasing twice is allowed.
Napi::Value PackedMatrixHandle::release(const Napi::CallbackInfo& info) {
  matrix_.reset();
  return info.Env().Undefined();
}

void define_packed_matrix(Napi::Env env, Napi::Object exports) {
  PackedMatrixHandle::define(env, exports);
  binding::define<create>(exports, "packedMatrixCreate");
  binding::define<round>(exports, "packedMatrixRound");
  binding::define<share>(exports, "packedMatrixShare");
  binding::define<from_shared>(exports, "packedMatrixFromShared");
}

}  // namespace usmlite::binding
