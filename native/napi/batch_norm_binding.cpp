#include "cpu/batch_norm.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/results.hpp"

namespace usmlite::binding {
namespace {

// batchNorm(x, weight, bias, epsilon, silu, training, momentum, runningMean, runningVariance)
//   -> [y, mean, reciprocalDeviation]
Napi::Value batch_norm(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "batchNorm", 9);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const int64_t frames = x.dim(0), channels = x.dim(1);
  const bool training = arguments.boolean(5, "training");
  if (training && frames < 2) {
    arguments.fail("training needs at least 2 frames to measure a variance but x has shape " + shape_text(x.shape()));
  }
  Tensor y(DType::kFloat32, x.shape());
  Tensor mean(DType::kFloat32, {channels}), reciprocal_deviation(DType::kFloat32, {channels});
  cpu::batch_norm_forward(cpu::BatchNormForward{
       .x = x.f32(),
       .weight = arguments.tensor(1, "weight", DType::kFloat32, {channels}).f32(),
       .bias = arguments.tensor(2, "bias", DType::kFloat32, {channels}).f32(),
       .silu = arguments.boolean(4, "silu"),
       .frames = frames,
       .channels = channels,
       .epsilon = static_cast<float>(arguments.number(3, "epsilon", 0.0, 1.0)),
       .training = training,
       .momentum = static_cast<float>(arguments.number(6, "momentum", 0.0, 1.0)),
       .running_mean = arguments.tensor(7, "runningMean", DType::kFloat32, {channels}).f32(),
       .running_variance = arguments.tensor(8, "runningVariance", DType::kFloat32, {channels}).f32(),
       .mean = mean.f32(),
       .reciprocal_deviation = reciprocal_deviation.f32(),
       .y = y.f32()});
  return wrap_all(info.Env(), {y, mean, reciprocal_deviation});
}

// batchNormBackward(x, weight, bias, mean, reciprocalDeviation, gradient, silu, training)
//   -> [gradientX, gradientWeight, gradientBias]
Napi::Value batch_norm_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "batchNormBackward", 8);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const int64_t frames = x.dim(0), channels = x.dim(1);
  Tensor gradient_x(DType::kFloat32, x.shape());
  Tensor gradient_weight(DType::kFloat32, {channels}), gradient_bias(DType::kFloat32, {channels});
  cpu::batch_norm_backward(cpu::BatchNormBackward{
       .x = x.f32(),
       .weight = arguments.tensor(1, "weight", DType::kFloat32, {channels}).f32(),
       .bias = arguments.tensor(2, "bias", DType::kFloat32, {channels}).f32(),
       .mean = arguments.tensor(3, "mean", DType::kFloat32, {channels}).f32(),
       .reciprocal_deviation = arguments.tensor(4, "reciprocalDeviation", DType::kFloat32, {channels}).f32(),
       .gradient = arguments.tensor(5, "gradient", DType::kFloat32, {frames, channels}).f32(),
       .silu = arguments.boolean(6, "silu"),
       .training = arguments.boolean(7, "training"),
       .frames = frames,
       .channels = channels,
       .gradient_x = gradient_x.f32(),
       .gradient_weight = gradient_weight.f32(),
       .gradient_bias = gradient_bias.f32()});
  return wrap_all(info.Env(), {gradient_x, gradient_weight, gradient_bias});
}

}  // namespace

void define_batch_norm(Napi::Object exports) {
  define<batch_norm>(exports, "batchNorm");
  define<batch_norm_backward>(exports, "batchNormBackward");
}

}  // namespace usmlite::binding
