#include "cpu/activation.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

void check_same_shape(const Arguments& arguments, const Tensor& x, const Tensor& gradient) {
  if (x.shape() != gradient.shape()) {
    arguments.fail("gradient must have the shape of the input, " + shape_text(x.shape()) + ", but has " +
                   shape_text(gradient.shape()));
  }
}

// silu(x, dropoutProbability, seed) -> y
Napi::Value silu(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "silu", 3);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32);
  const Dropout dropout = arguments.dropout(1);
  Tensor y(DType::kFloat32, x.shape());
  cpu::silu_forward(x.f32(), dropout, y.f32(), y.count());
  return TensorHandle::wrap(info.Env(), std::move(y));
}

// siluBackward(x, gradient, dropoutProbability, seed) -> gradientX
Napi::Value silu_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "siluBackward", 4);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32);
  const Tensor& gradient = arguments.tensor(1, "gradient", DType::kFloat32);
  check_same_shape(arguments, x, gradient);
  const Dropout dropout = arguments.dropout(2);
  Tensor gradient_x(DType::kFloat32, x.shape());
  cpu::silu_backward(x.f32(), gradient.f32(), dropout, gradient_x.f32(), x.count());
  return TensorHandle::wrap(info.Env(), std::move(gradient_x));
}

// relu(x) -> y
Napi::Value relu(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "relu", 1);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32);
  Tensor y(DType::kFloat32, x.shape());
  cpu::relu_forward(x.f32(), y.f32(), y.count());
  return TensorHandle::wrap(info.Env(), std::move(y));
}

// dropout(x, dropoutProbability, seed) -> y
Napi::Value dropout(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "dropout", 3);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32);
  const Dropout dropout = arguments.dropout(1);
  Tensor y(DType::kFloat32, x.shape());
  cpu::apply_dropout(x.f32(), dropout, y.f32(), y.count());
  return TensorHandle::wrap(info.Env(), std::move(y));
}

const Tensor& glu_input(const Arguments& arguments) {
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  if (x.dim(1) % 2 != 0) {
    arguments.fail("x must have an even number of columns, values then gates, but has shape " + shape_text(x.shape()));
  }
  return x;
}

// glu(x) -> y
Napi::Value glu(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "glu", 1);
  const Tensor& x = glu_input(arguments);
  Tensor y(DType::kFloat32, {x.dim(0), x.dim(1) / 2});
  cpu::glu_forward(x.f32(), y.f32(), y.dim(0), y.dim(1));
  return TensorHandle::wrap(info.Env(), std::move(y));
}

// gluBackward(x, gradient) -> gradientX
Napi::Value glu_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "gluBackward", 2);
  const Tensor& x = glu_input(arguments);
  const Tensor& gradient = arguments.tensor(1, "gradient", DType::kFloat32, {x.dim(0), x.dim(1) / 2});
  Tensor gradient_x(DType::kFloat32, x.shape());
  cpu::glu_backward(x.f32(), gradient.f32(), gradient_x.f32(), x.dim(0), x.dim(1) / 2);
  return TensorHandle::wrap(info.Env(), std::move(gradient_x));
}

}  // namespace

void define_activation(Napi::Object exports) {
  define<silu>(exports, "silu");
  define<silu_backward>(exports, "siluBackward");
  define<relu>(exports, "relu");
  define<dropout>(exports, "dropout");
  define<glu>(exports, "glu");
  define<glu_backward>(exports, "gluBackward");
}

}  // namespace usmlite::binding
