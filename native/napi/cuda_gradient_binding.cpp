// Training on the GPU: normalisation and convolutions, and their gradients.
#include "cuda/batch_norm.hpp"
#include "cuda/depthwise_convolution.hpp"
#include "cuda/gather_windows.hpp"
#include "cuda/layer_norm_backward.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/cuda_operands.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

// deviceLayerNormBackward(x, weight, gradient, epsilon, wantsX, wantsWeight, wantsBias, sum?, stream?) -> [x?, weight?, bias?]
// With `sum` the gradient of x is added to it, and not returned.
Napi::Value layer_norm_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceLayerNormBackward", 7);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.training_floats(0, "x");
  const int64_t hidden = x.columns();
  const DeviceTensor& weight = operands.weights(1, "weight", {hidden});
  const DeviceTensor& gradient = operands.like(2, "gradient", x);
  if (hidden > cuda::kWidestNormalizedFrame) {
    throw Error(error_code::kUnsupportedSpec, "frames have " + std::to_string(hidden) + " values; their normalisation is trained on the GPU up to " +
                                                  std::to_string(cuda::kWidestNormalizedFrame));
  }
  const auto epsilon = static_cast<float>(arguments.number(3, "epsilon", 0.0, 1.0));
  const DeviceTensor* sum = arguments.has(7) ? &operands.like(7, "sum", x) : nullptr;
  const auto stream = stream_argument(arguments, info, 8);
  const Wanted of_x(arguments.boolean(4, "wantsX") && !sum, x.type(), x.shape(), stream);
  const Wanted of_weight(arguments.boolean(5, "wantsWeight"), DeviceType::kFloat32, {hidden}, stream);
  const Wanted of_bias(arguments.boolean(6, "wantsBias"), DeviceType::kFloat32, {hidden}, stream);
  cuda::layer_norm_backward({&x, &weight, &gradient, epsilon, sum ? sum : of_x.get(), sum != nullptr, of_weight.get(), of_bias.get()}, stream);
  return wrap_all(info.Env(), {of_x.get(), of_weight.get(), of_bias.get()});
}

// deviceBatchNorm(x, weight, bias, epsilon, silu, training, momentum, runningMean, runningVariance, stream?)
//   -> [y, mean, reciprocalDeviation]
Napi::Value batch_norm(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceBatchNorm", 9);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.training_floats(0, "x");
  const int64_t channels = x.columns();
  const bool training = arguments.boolean(5, "training");
  if (training && x.rows() < 2) {
    arguments.fail("training needs at least 2 frames to measure a variance but x has shape " + shape_text(x.shape()));
  }
  const auto stream = stream_argument(arguments, info, 9);
  const DeviceTensor y(x.type(), x.shape(), stream);
  const DeviceTensor mean(DeviceType::kFloat32, {channels}, stream), reciprocal_deviation(DeviceType::kFloat32, {channels}, stream);
  cuda::batch_norm({.x = &x,
                    .weight = &operands.weights(1, "weight", {channels}),
                    .bias = &operands.weights(2, "bias", {channels}),
                    .epsilon = static_cast<float>(arguments.number(3, "epsilon", 0.0, 1.0)),
                    .silu = arguments.boolean(4, "silu"),
                    .training = training,
                    .momentum = static_cast<float>(arguments.number(6, "momentum", 0.0, 1.0)),
                    .running_mean = &operands.weights(7, "runningMean", {channels}),
                    .running_variance = &operands.weights(8, "runningVariance", {channels}),
                    .mean = &mean,
                    .reciprocal_deviation = &reciprocal_deviation,
                    .y = &y},
                   stream);
  return wrap_all(info.Env(), {&y, &mean, &reciprocal_deviation});
}

// deviceBatchNormBackward(x, weight, bias, mean, reciprocalDeviation, gradient, silu, training, stream?) -> [x, weight, bias]
Napi::Value batch_norm_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceBatchNormBackward", 8);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.training_floats(0, "x");
  const int64_t channels = x.columns();
  const auto stream = stream_argument(arguments, info, 8);
  const DeviceTensor of_x(x.type(), x.shape(), stream);
  const DeviceTensor of_weight(DeviceType::kFloat32, {channels}, stream), of_bias(DeviceType::kFloat32, {channels}, stream);
  cuda::batch_norm_backward({.x = &x,
                             .weight = &operands.weights(1, "weight", {channels}),
                             .bias = &operands.weights(2, "bias", {channels}),
                             .mean = &operands.weights(3, "mean", {channels}),
                             .reciprocal_deviation = &operands.weights(4, "reciprocalDeviation", {channels}),
                             .gradient = &operands.like(5, "gradient", x),
                             .silu = arguments.boolean(6, "silu"),
                             .training = arguments.boolean(7, "training"),
                             .gradient_x = &of_x,
                             .gradient_weight = &of_weight,
                             .gradient_bias = &of_bias},
                            stream);
  return wrap_all(info.Env(), {&of_x, &of_weight, &of_bias});
}

// deviceDepthwiseConvolutionBackward(x, weight, sequences, gradient, leftPadding, wantsX, wantsWeight, wantsBias, stream?)
//   -> [x?, weight?, bias?]
Napi::Value depthwise_convolution_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceDepthwiseConvolutionBackward", 8);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.training_floats(0, "x");
  const auto kernel = DeviceTensorObject::from(arguments, info[1], "weight")->columns();
  const DeviceTensor& weight = operands.weights(1, "weight", {x.columns(), kernel});
  const DeviceTensor& gradient = operands.like(3, "gradient", x);
  if (kernel < 1 || kernel > cuda::kLongestDepthwiseKernel) {
    throw Error(error_code::kUnsupportedSpec, "the kernel spans " + std::to_string(kernel) + " frames; on the GPU it can be 1 to " +
                                                  std::to_string(cuda::kLongestDepthwiseKernel));
  }
  const auto left = static_cast<int>(arguments.integer(4, "leftPadding", 0, kernel - 1));
  const auto stream = stream_argument(arguments, info, 8);
  const cuda::PackedSequences sequences = operands.sequences(2, x.rows(), stream);
  const Wanted of_x(arguments.boolean(5, "wantsX"), x.type(), x.shape(), stream);
  const Wanted of_weight(arguments.boolean(6, "wantsWeight"), DeviceType::kFloat32, weight.shape(), stream);
  const Wanted of_bias(arguments.boolean(7, "wantsBias"), DeviceType::kFloat32, {x.columns()}, stream);
  if (of_x.get()) cuda::depthwise_convolution_input_gradient(gradient, weight, left, sequences, *of_x.get(), stream);
  if (of_weight.get() || of_bias.get()) {
    cuda::depthwise_convolution_weight_gradient(x, gradient, static_cast<int>(kernel), left, sequences, of_weight.get(), of_bias.get(), stream);
  }
  return wrap_all(info.Env(), {of_x.get(), of_weight.get(), of_bias.get()});
}

// deviceGatherWindowsBackward(gradient, sequences, kernel, stride, outputs, stream?)
Napi::Value gather_windows_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceGatherWindowsBackward", 5);
  Operands operands(arguments, info);
  const DeviceTensor& gradient = operands.training_floats(0, "gradient");
  const int64_t kernel = arguments.integer(2, "kernel", 1, 1 << 16), stride = arguments.integer(3, "stride", 1, 1 << 16);
  if (gradient.columns() % (8 * kernel) != 0) {
    throw Error(error_code::kUnsupportedSpec, "rows of " + std::to_string(gradient.columns()) + " values are no windows of " +
                                                  std::to_string(kernel) + " frames with a multiple of 8 channels");
  }
  const auto inputs = DeviceSequencesObject::from(arguments, info[1], "sequences");
  const auto stream = stream_argument(arguments, info, 5);
  const cuda::PackedSequences outputs = operands.sequences(4, gradient.rows(), stream);
  if (inputs->count() != outputs.count) arguments.fail("sequences and outputs must be as many");
  DeviceTensor of_x(gradient.type(), {inputs->frames(), gradient.columns() / kernel}, stream);
  cuda::gather_windows_backward(gradient, inputs->use_on(stream), static_cast<int>(stride), 0, outputs, of_x, stream);
  return wrap(info.Env(), std::move(of_x));
}

}  // namespace

void define_device_gradients(Napi::Object exports) {
  define<layer_norm_backward>(exports, "deviceLayerNormBackward");
  define<batch_norm>(exports, "deviceBatchNorm");
  define<batch_norm_backward>(exports, "deviceBatchNormBackward");
  define<depthwise_convolution_backward>(exports, "deviceDepthwiseConvolutionBackward");
  define<gather_windows_backward>(exports, "deviceGatherWindowsBackward");
}

}  // namespace usmlite::binding
