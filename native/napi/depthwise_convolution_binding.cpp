#include "cpu/depthwise_convolution.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/results.hpp"

namespace usmlite::binding {
namespace {

// Every depthwise function begins (x, weight, offsets, leftPadding, ..).
struct DepthwiseOperands {
  const Tensor& x;       // (frames, channels)
  const Tensor& weight;  // (channels, kernel) or (channels, 1, kernel)
  cpu::DepthwiseShape shape;
};

DepthwiseOperands depthwise_operands(const Arguments& arguments) {
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const Tensor& weight = arguments.tensor(1, "weight", DType::kFloat32);
  const bool has_group_axis = weight.rank() == 3 && weight.dim(1) == 1;
  if (!(weight.rank() == 2 || has_group_axis) || weight.dim(0) != x.dim(1) || weight.dim(-1) < 1) {
    arguments.fail("weight must have shape (channels, kernel) or (channels, 1, kernel) with " +
                   std::to_string(x.dim(1)) + " channels but has " + shape_text(weight.shape()));
  }
  const Tensor& offsets = arguments.offsets(2, "offsets", x.dim(0));
  const int64_t kernel = weight.dim(-1), left = arguments.integer(3, "leftPadding", 0, kernel - 1);
  return {x, weight, {offsets.i32(), offsets.count() - 1, x.dim(1), kernel, left}};
}

// depthwiseConvolution(x, weight, offsets, leftPadding, bias?, silu) -> y
Napi::Value depthwise_convolution(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "depthwiseConvolution", 6);
  const DepthwiseOperands operands = depthwise_operands(arguments);
  const Tensor* bias = arguments.optional_tensor(4, "bias", DType::kFloat32, {operands.shape.channels});
  Tensor y(DType::kFloat32, operands.x.shape());
  cpu::depthwise_forward(operands.shape, operands.x.f32(), operands.weight.f32(), data_or_null(bias),
                         arguments.boolean(5, "silu"), y.f32());
  return TensorHandle::wrap(info.Env(), std::move(y));
}

// depthwiseConvolutionBackward(x, weight, offsets, leftPadding, gradient, wantsX, wantsWeight, wantsBias)
//   -> [gradientX?, gradientWeight?, gradientBias?]
Napi::Value depthwise_convolution_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "depthwiseConvolutionBackward", 8);
  const DepthwiseOperands operands = depthwise_operands(arguments);
  const Tensor& x = operands.x;
  const Tensor& gradient = arguments.tensor(4, "gradient", DType::kFloat32, {x.dim(0), x.dim(1)});
  Tensor gradient_x = tensor_if(arguments.boolean(5, "wantsX"), x.shape());
  Tensor gradient_weight = tensor_if(arguments.boolean(6, "wantsWeight"), operands.weight.shape());
  Tensor gradient_bias = tensor_if(arguments.boolean(7, "wantsBias"), {x.dim(1)});
  cpu::depthwise_backward(operands.shape, x.f32(), operands.weight.f32(), gradient.f32(), data_or_null(gradient_x),
                          data_or_null(gradient_weight), data_or_null(gradient_bias));
  return wrap_all(info.Env(), {gradient_x, gradient_weight, gradient_bias});
}

}  // namespace

void define_depthwise_convolution(Napi::Object exports) {
  define<depthwise_convolution>(exports, "depthwiseConvolution");
  define<depthwise_convolution_backward>(exports, "depthwiseConvolutionBackward");
}

}  // namespace usmlite::binding
