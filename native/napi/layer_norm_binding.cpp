#include "cpu/layer_norm.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/results.hpp"

namespace usmlite::binding {
namespace {

constexpr double kLargestEpsilon = 1.0;

// layerNorm(x, weight, bias?, epsilon) -> normalized
Napi::Value layer_norm(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "layerNorm", 4);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const Tensor& weight = arguments.tensor(1, "weight", DType::kFloat32, {x.dim(1)});
  const Tensor* bias = arguments.optional_tensor(2, "bias", DType::kFloat32, {x.dim(1)});
  Tensor normalized(DType::kFloat32, x.shape());
  cpu::layer_norm_forward(cpu::LayerNormForward{
       .x = x.f32(),
                           .y = nullptr,
                           .weight = weight.f32(),
                           .bias = data_or_null(bias),
                           .epsilon = static_cast<float>(arguments.number(3, "epsilon", 0.0, kLargestEpsilon)),
                           .frames = x.dim(0),
                           .hidden = x.dim(1),
                           .sum = nullptr,
                           .normalized = normalized.f32()});
  return TensorHandle::wrap(info.Env(), std::move(normalized));
}

// addLayerNorm(x, a, y, b, weight, bias?, epsilon) -> [sum, normalized]
Napi::Value add_layer_norm(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "addLayerNorm", 7);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const Tensor& y = arguments.tensor(2, "y", DType::kFloat32, {x.dim(0), x.dim(1)});
  const Tensor& weight = arguments.tensor(4, "weight", DType::kFloat32, {x.dim(1)});
  const Tensor* bias = arguments.optional_tensor(5, "bias", DType::kFloat32, {x.dim(1)});
  Tensor sum(DType::kFloat32, x.shape()), normalized(DType::kFloat32, x.shape());
  cpu::layer_norm_forward(cpu::LayerNormForward{
       .x = x.f32(),
                           .y = y.f32(),
                           .a = static_cast<float>(arguments.number(1, "a", -1e30, 1e30)),
                           .b = static_cast<float>(arguments.number(3, "b", -1e30, 1e30)),
                           .weight = weight.f32(),
                           .bias = data_or_null(bias),
                           .epsilon = static_cast<float>(arguments.number(6, "epsilon", 0.0, kLargestEpsilon)),
                           .frames = x.dim(0),
                           .hidden = x.dim(1),
                           .sum = sum.f32(),
                           .normalized = normalized.f32()});
  return wrap_all(info.Env(), {sum, normalized});
}

// layerNormBackward(sum, a, b, weight, epsilon, gradientNormalized?, gradientSum?, wantsX, wantsY, wantsWeight,
//                   wantsBias) -> [gradientX?, gradientY?, gradientWeight?, gradientBias?]
Napi::Value layer_norm_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "layerNormBackward", 11);
  const Tensor& sum = arguments.tensor(0, "sum", DType::kFloat32, {kAny, kAny});
  const int64_t frames = sum.dim(0), hidden = sum.dim(1);
  const Tensor& weight = arguments.tensor(3, "weight", DType::kFloat32, {hidden});
  const Tensor* gradient_normalized =
      arguments.optional_tensor(5, "gradientNormalized", DType::kFloat32, {frames, hidden});
  const Tensor* gradient_sum = arguments.optional_tensor(6, "gradientSum", DType::kFloat32, {frames, hidden});
  Tensor gradient_x = tensor_if(arguments.boolean(7, "wantsX"), sum.shape());
  Tensor gradient_y = tensor_if(arguments.boolean(8, "wantsY"), sum.shape());
  Tensor gradient_weight = tensor_if(arguments.boolean(9, "wantsWeight"), {hidden});
  Tensor gradient_bias = tensor_if(arguments.boolean(10, "wantsBias"), {hidden});
  cpu::layer_norm_backward(cpu::LayerNormBackward{
       .sum = sum.f32(),
                            .weight = weight.f32(),
                            .epsilon = static_cast<float>(arguments.number(4, "epsilon", 0.0, kLargestEpsilon)),
                            .a = static_cast<float>(arguments.number(1, "a", -1e30, 1e30)),
                            .b = static_cast<float>(arguments.number(2, "b", -1e30, 1e30)),
                            .frames = frames,
                            .hidden = hidden,
                            .gradient_normalized = data_or_null(gradient_normalized),
                            .gradient_sum = data_or_null(gradient_sum),
                            .gradient_x = data_or_null(gradient_x),
                            .gradient_y = data_or_null(gradient_y),
                            .gradient_weight = data_or_null(gradient_weight),
                            .gradient_bias = data_or_null(gradient_bias)});
  return wrap_all(info.Env(), {gradient_x, gradient_y, gradient_weight, gradient_bias});
}

}  // namespace

void define_layer_norm(Napi::Object exports) {
  define<layer_norm>(exports, "layerNorm");
  define<add_layer_norm>(exports, "addLayerNorm");
  define<layer_norm_backward>(exports, "layerNormBackward");
}

}  // namespace usmlite::binding
