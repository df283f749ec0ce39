#include "cpu/grouped_convolution.hpp"

#include <algorithm>

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/results.hpp"

namespace usmlite::binding {
namespace {

// The convolution that arguments x, weight, bias?, offsets, groups, leftPadding describe.
cpu::GroupedConvolution convolution_of(const Arguments& arguments, const Tensor& x, const Tensor& weight) {
  cpu::GroupedConvolution p;
  p.in = x.dim(1);
  p.out = weight.dim(0);
  p.kernel = weight.dim(1);
  p.groups = arguments.integer(4, "groups", 1, 1 << 20);
  if (p.kernel < 1 || p.in % p.groups != 0 || p.out % p.groups != 0 || weight.dim(2) != p.in / p.groups) {
    arguments.fail("weight " + shape_text(weight.shape()) + " does not convolve " + std::to_string(p.in) + " channels in " +
                   std::to_string(p.groups) + " groups");
  }
  const Tensor& offsets = arguments.offsets(3, "offsets", x.dim(0));
  p.offsets = offsets.i32();
  p.sequences = offsets.count() - 1;
  p.left = arguments.integer(5, "leftPadding", 0, p.kernel - 1);
  return p;
}

// groupedConvolution(x, weight, bias?, offsets, groups, leftPadding) -> tensor (frames, out); weight (out, kernel, in / groups)
Napi::Value grouped_convolution(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "groupedConvolution", 6);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const Tensor& weight = arguments.tensor(1, "weight", DType::kFloat32, {kAny, kAny, kAny});
  const cpu::GroupedConvolution p = convolution_of(arguments, x, weight);
  const Tensor* bias = arguments.optional_tensor(2, "bias", DType::kFloat32, {p.out});
  Tensor y(DType::kFloat32, {x.dim(0), p.out});
  cpu::grouped_convolution(p, x.f32(), weight.f32(), data_or_null(bias), y.f32());
  return TensorHandle::wrap(info.Env(), std::move(y));
}

// groupedConvolutionBackward(x, weight, bias?, offsets, groups, leftPadding, gradient, wantsX, wantsWeight) -> [x?, weight?, bias?]
Napi::Value grouped_convolution_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "groupedConvolutionBackward", 9);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const Tensor& weight = arguments.tensor(1, "weight", DType::kFloat32, {kAny, kAny, kAny});
  const cpu::GroupedConvolution p = convolution_of(arguments, x, weight);
  const Tensor& gradient = arguments.tensor(6, "gradient", DType::kFloat32, {x.dim(0), p.out});
  const bool wants_weight = arguments.boolean(8, "wantsWeight");
  Tensor gradient_x = tensor_if(arguments.boolean(7, "wantsX"), x.shape());
  Tensor gradient_weight = tensor_if(wants_weight, weight.shape());
  Tensor gradient_bias = tensor_if(wants_weight && arguments.has(2), {p.out});
  for (const Tensor* sum : {&gradient_weight, &gradient_bias}) {
    if (sum->storage()) std::fill_n(sum->f32(), sum->count(), 0.0f);
  }
  cpu::grouped_convolution_backward(p, x.f32(), weight.f32(), gradient.f32(), data_or_null(gradient_x), data_or_null(gradient_weight),
                                    data_or_null(gradient_bias));
  return wrap_all(info.Env(), {gradient_x, gradient_weight, gradient_bias});
}

}  // namespace

void define_grouped_convolution(Napi::Object exports) {
  define<grouped_convolution>(exports, "groupedConvolution");
  define<grouped_convolution_backward>(exports, "groupedConvolutionBackward");
}

}  // namespace usmlite::binding
