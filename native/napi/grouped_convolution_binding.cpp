#include "cpu/grouped_convolution.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/results.hpp"

namespace usmlite::binding {
namespace {

// groupedConvolution(x, weight, bias?, offsets, groups, leftPadding) -> tensor (frames, out); weight (out, kernel, in / groups)
Napi::Value grouped_convolution(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "groupedConvolution", 6);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const Tensor& weight = arguments.tensor(1, "weight", DType::kFloat32, {kAny, kAny, kAny});
  cpu::GroupedConvolution p;
  p.in = x.dim(1);
  p.out = weight.dim(0);
  p.kernel = weight.dim(1);
  p.groups = arguments.integer(4, "groups", 1, 1 << 20);
  if (p.kernel < 1 || p.in % p.groups != 0 || p.out % p.groups != 0 || weight.dim(2) != p.in / p.groups) {
    arguments.fail("weight " + shape_text(weight.shape()) + " does not convolve " + std::to_string(p.in) + " channels in " +
                   std::to_string(p.groups) + " groups");
  }
  const Tensor* bias = arguments.optional_tensor(2, "bias", DType::kFloat32, {p.out});
  const Tensor& offsets = arguments.offsets(3, "offsets", x.dim(0));
  p.offsets = offsets.i32();
  p.sequences = offsets.count() - 1;
  p.left = arguments.integer(5, "leftPadding", 0, p.kernel - 1);
  Tensor y(DType::kFloat32, {x.dim(0), p.out});
  cpu::grouped_convolution(p, x.f32(), weight.f32(), data_or_null(bias), y.f32());
  return TensorHandle::wrap(info.Env(), std::move(y));
}

}  // namespace

void define_grouped_convolution(Napi::Object exports) { define<grouped_convolution>(exports, "groupedConvolution"); }

}  // namespace usmlite::binding
