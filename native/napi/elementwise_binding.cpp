#include "cpu/elementwise.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

Napi::Value add_in_place(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "addInPlace", 2);
  const Tensor& y = arguments.tensor(0, "sum", DType::kFloat32);
  const Tensor& x = arguments.tensor(1, "addend", DType::kFloat32);
  if (x.shape() != y.shape()) {
    arguments.fail("shapes " + shape_text(y.shape()) + " and " + shape_text(x.shape()) + " differ");
  }
  cpu::add_in_place(x.f32(), y.f32(), y.count());
  return info.Env().Undefined();
}

Napi::Value scaled_sum(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "scaledSum", 4);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32);
  const float a = static_cast<float>(arguments.number(1, "a", -1e30, 1e30));
  const Tensor& y = arguments.tensor(2, "y", DType::kFloat32);
  const float b = static_cast<float>(arguments.number(3, "b", -1e30, 1e30));
  if (x.shape() != y.shape()) {
    arguments.fail("shapes " + shape_text(x.shape()) + " and " + shape_text(y.shape()) + " differ");
  }
  Tensor sum(DType::kFloat32, x.shape());
  cpu::scaled_sum(x.f32(), a, y.f32(), b, sum.f32(), sum.count());
  return TensorHandle::wrap(info.Env(), std::move(sum));
}

}  // namespace

void define_elementwise(Napi::Object exports) {
  define<add_in_place>(exports, "addInPlace");
  define<scaled_sum>(exports, "scaledSum");
}

}  // namespace usmlite::binding
