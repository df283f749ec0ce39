#include "cpu/gelu.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

// gelu(x, inPlace) -> y of the same shape, or nothing
Napi::Value gelu(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "gelu", 2);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32);
  const bool in_place = arguments.boolean(1, "inPlace");
  Tensor y = in_place ? x : Tensor(DType::kFloat32, x.shape());
  cpu::gelu(x.f32(), y.f32(), x.count());
  return in_place ? info.Env().Undefined() : TensorHandle::wrap(info.Env(), std::move(y));
}

// geluBackward(x, gradient) -> gradient of x
Napi::Value gelu_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "geluBackward", 2);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32);
  const Tensor& gradient = arguments.tensor(1, "gradient", DType::kFloat32);
  if (gradient.shape() != x.shape()) arguments.fail("gradient has shape " + shape_text(gradient.shape()) + " but x has " + shape_text(x.shape()));
  Tensor gradient_x(DType::kFloat32, x.shape());
  cpu::gelu_backward(x.f32(), gradient.f32(), gradient_x.f32(), x.count());
  return TensorHandle::wrap(info.Env(), std::move(gradient_x));
}

}  // namespace

void define_gelu(Napi::Object exports) {
  define<gelu>(exports, "gelu");
  define<gelu_backward>(exports, "geluBackward");
}

}  // namespace usmlite::binding
