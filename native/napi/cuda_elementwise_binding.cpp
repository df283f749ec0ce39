// Operations of training on the GPU that take elements one by one, and transposed copies.
#include "cuda/activation.hpp"
#include "cuda/elementwise.hpp"
#include "cuda/gated_linear_unit.hpp"
#include "cuda/transpose.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/cuda_operands.hpp"
#include "napi/groups.hpp"
#include "napi/matmul_arguments.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;

// deviceScaledSum(x, a, y, b, stream?)
Napi::Value scaled_sum(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceScaledSum", 4);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.any_floats(0, "x");
  const DeviceTensor& y = operands.like(2, "y", x);
  const float a = factor_argument(arguments, 1, "a"), b = factor_argument(arguments, 3, "b");
  const auto stream = stream_argument(arguments, info, 4);
  DeviceTensor sum(x.type(), x.shape(), stream);
  cuda::scaled_sum(x, a, y, b, sum, stream);
  return wrap(info.Env(), std::move(sum));
}

// deviceAddInPlace(sum, addend, stream?)
Napi::Value add_in_place(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceAddInPlace", 2);
  Operands operands(arguments, info);
  const DeviceTensor& sum = operands.any_floats(0, "sum");
  cuda::scaled_sum(sum, 1.0f, operands.like(1, "addend", sum), 1.0f, sum, stream_argument(arguments, info, 2));
  return info.Env().Undefined();
}

// deviceMultiply(x, y, stream?)
Napi::Value multiply(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceMultiply", 2);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.singles(0, "x");
  const DeviceTensor& y = operands.like(1, "y", x);
  const auto stream = stream_argument(arguments, info, 2);
  DeviceTensor product(x.type(), x.shape(), stream);
  cuda::multiply(x, y, product, stream);
  return wrap(info.Env(), std::move(product));
}

// deviceRaise(x, least, stream?)
Napi::Value raise(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceRaise", 2);
  Operands operands(arguments, info);
  cuda::raise_to(operands.singles(0, "x"), factor_argument(arguments, 1, "least"), stream_argument(arguments, info, 2));
  return info.Env().Undefined();
}

using WithDropout = decltype(cuda::silu);

/// (x, probability, seed, stream?)
template <WithDropout operation>
Napi::Value with_dropout(const Napi::CallbackInfo& info, const char* name) {
  Arguments arguments(info, name, 3);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.floats(0, "x");
  const auto stream = stream_argument(arguments, info, 3);
  DeviceTensor y(x.type(), x.shape(), stream);
  operation(x, arguments.dropout(1), y, stream);
  return wrap(info.Env(), std::move(y));
}

Napi::Value dropout(const Napi::CallbackInfo& info) { return with_dropout<cuda::apply_dropout>(info, "deviceDropout"); }

Napi::Value silu(const Napi::CallbackInfo& info) { return with_dropout<cuda::silu>(info, "deviceSilu"); }

// deviceSiluBackward(x, gradient, probability, seed, stream?)
Napi::Value silu_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceSiluBackward", 4);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.floats(0, "x");
  const DeviceTensor& gradient = operands.like(1, "gradient", x);
  const auto stream = stream_argument(arguments, info, 4);
  DeviceTensor gradient_x(x.type(), x.shape(), stream);
  cuda::silu_backward(x, gradient, arguments.dropout(2), gradient_x, stream);
  return wrap(info.Env(), std::move(gradient_x));
}

// deviceGeluBackward(x, gradient, stream?)
Napi::Value gelu_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceGeluBackward", 2);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.floats(0, "x");
  const DeviceTensor& gradient = operands.like(1, "gradient", x);
  const auto stream = stream_argument(arguments, info, 2);
  DeviceTensor gradient_x(x.type(), x.shape(), stream);
  cuda::gelu_backward(x, gradient, gradient_x, stream);
  return wrap(info.Env(), std::move(gradient_x));
}

// deviceGluBackward(x, gradient, stream?)
Napi::Value glu_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceGluBackward", 2);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.floats(0, "x");
  if (x.columns() % 2 != 0) arguments.fail("x has " + std::to_string(x.columns()) + " columns; values and gates must be as many");
  const DeviceTensor& gradient = operands.like(1, "gradient", x, {x.rows(), x.columns() / 2});
  const auto stream = stream_argument(arguments, info, 2);
  DeviceTensor gradient_x(x.type(), x.shape(), stream);
  cuda::gated_linear_unit_backward(x, gradient, gradient_x, stream);
  return wrap(info.Env(), std::move(gradient_x));
}

// deviceTranspose(x (rows, columns), stream?)
Napi::Value transpose(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceTranspose", 1);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.any_floats(0, "x");
  if (x.shape().size() != 2) arguments.fail("x has shape " + shape_text(x.shape()) + "; only a matrix can be transposed");
  const auto stream = stream_argument(arguments, info, 1);
  DeviceTensor y(x.type(), {x.columns(), x.rows()}, stream);
  cuda::transpose(x, y, stream);
  return wrap(info.Env(), std::move(y));
}

}  // namespace

void define_device_elementwise(Napi::Object exports) {
  define<scaled_sum>(exports, "deviceScaledSum");
  define<add_in_place>(exports, "deviceAddInPlace");
  define<multiply>(exports, "deviceMultiply");
  define<raise>(exports, "deviceRaise");
  define<dropout>(exports, "deviceDropout");
  define<silu>(exports, "deviceSilu");
  define<silu_backward>(exports, "deviceSiluBackward");
  define<gelu_backward>(exports, "deviceGeluBackward");
  define<glu_backward>(exports, "deviceGluBackward");
  define<transpose>(exports, "deviceTranspose");
}

}  // namespace usmlite::binding
