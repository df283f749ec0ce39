#include "cpu/softmax.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

struct Rows {
  int64_t count, columns;
};

Rows rows_of(const Arguments& arguments, const Tensor& x) {
  if (x.rank() < 1 || x.dim(-1) < 1) arguments.fail("the last axis must not be empty; x has shape " + shape_text(x.shape()));
  return {x.count() / x.dim(-1), x.dim(-1)};
}

template <typename Function>
Napi::Value forward(const Arguments& arguments, const Function& function) {
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32);
  const Rows rows = rows_of(arguments, x);
  Tensor y(DType::kFloat32, x.shape());
  function(x.f32(), y.f32(), rows.count, rows.columns);
  return TensorHandle::wrap(arguments.env(), std::move(y));
}

template <typename Function>
Napi::Value backward(const Arguments& arguments, const Function& function) {
  const Tensor& y = arguments.tensor(0, "y", DType::kFloat32);
  const Tensor& gradient = arguments.tensor(1, "gradient", DType::kFloat32);
  if (y.shape() != gradient.shape()) {
    arguments.fail("gradient must have the shape of the output, " + shape_text(y.shape()) + ", but has " +
                   shape_text(gradient.shape()));
  }
  const Rows rows = rows_of(arguments, y);
  Tensor gradient_x(DType::kFloat32, y.shape());
  function(y.f32(), gradient.f32(), gradient_x.f32(), rows.count, rows.columns);
  return TensorHandle::wrap(arguments.env(), std::move(gradient_x));
}

// softmax(x) -> y
Napi::Value softmax(const Napi::CallbackInfo& info) {
  return forward(Arguments(info, "softmax", 1), [](auto... a) { cpu::softmax_forward(a...); });
}

// softmaxBackward(y, gradient) -> gradientX
Napi::Value softmax_backward(const Napi::CallbackInfo& info) {
  return backward(Arguments(info, "softmaxBackward", 2), [](auto... a) { cpu::softmax_backward(a...); });
}

// logSoftmax(x) -> y
Napi::Value log_softmax(const Napi::CallbackInfo& info) {
  return forward(Arguments(info, "logSoftmax", 1), [](auto... a) { cpu::log_softmax_forward(a...); });
}

// logSoftmaxBackward(y, gradient) -> gradientX
Napi::Value log_softmax_backward(const Napi::CallbackInfo& info) {
  return backward(Arguments(info, "logSoftmaxBackward", 2), [](auto... a) { cpu::log_softmax_backward(a...); });
}

}  // namespace

void define_softmax(Napi::Object exports) {
  define<softmax>(exports, "softmax");
  define<softmax_backward>(exports, "softmaxBackward");
  define<log_softmax>(exports, "logSoftmax");
  define<log_softmax_backward>(exports, "logSoftmaxBackward");
}

}  // namespace usmlite::binding
