#include "cpu/gelu.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

// gelu(x) -> y of the same shape
Napi::Value gelu(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "gelu", 1);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32);
  Tensor y(DType::kFloat32, x.shape());
  cpu::gelu(x.f32(), y.f32(), x.count());
  return TensorHandle::wrap(info.Env(), std::move(y));
}

}  // namespace

void define_gelu(Napi::Object exports) { define<gelu>(exports, "gelu"); }

}  // namespace usmlite::binding
