#include "cpu/instance_norm.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

// instanceNorm(x, offsets, weight, bias, epsilon) -> normalized
Napi::Value instance_norm(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "instanceNorm", 5);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const Tensor& offsets = arguments.offsets(1, "offsets", x.dim(0));
  const Tensor& weight = arguments.tensor(2, "weight", DType::kFloat32, {x.dim(1)});
  const Tensor& bias = arguments.tensor(3, "bias", DType::kFloat32, {x.dim(1)});
  const float epsilon = static_cast<float>(arguments.number(4, "epsilon", 0.0, 1.0));
  Tensor normalized(DType::kFloat32, x.shape());
  cpu::instance_norm(x.f32(), offsets.i32(), offsets.count() - 1, x.dim(1), weight.f32(), bias.f32(), epsilon, normalized.f32());
  return TensorHandle::wrap(info.Env(), std::move(normalized));
}

}  // namespace

void define_instance_norm(Napi::Object exports) { define<instance_norm>(exports, "instanceNorm"); }

}  // namespace usmlite::binding
