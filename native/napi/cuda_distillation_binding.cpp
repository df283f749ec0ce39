// How far a student on the GPU is from its teacher.
#include "cuda/mean_square.hpp"
#include "cuda/softmax_divergence.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/cuda_operands.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

// deviceSoftmaxDivergence(student, teacher, temperature, wantsGradient): [divergences, gradient?]
Napi::Value softmax_divergence(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceSoftmaxDivergence", 4);
  Operands operands(arguments, info);
  const DeviceTensor& student = operands.training_floats(0, "student");
  const DeviceTensor& teacher = operands.like(1, "teacher", student);
  if (student.columns() == 0) arguments.fail("rows are empty");
  const auto temperature = static_cast<float>(arguments.number(2, "temperature", 1e-3, 1e3));
  const auto stream = cuda::default_stream();
  DeviceTensor divergences(DeviceType::kFloat32, {student.rows()}, stream), gradient;
  const bool wants_gradient = arguments.boolean(3, "wantsGradient");
  if (wants_gradient) gradient = DeviceTensor(student.type(), student.shape(), stream);
  cuda::softmax_divergence(student, teacher, temperature, divergences, wants_gradient ? &gradient : nullptr, stream);
  return wrap_all(info.Env(), {&divergences, wants_gradient ? &gradient : nullptr});
}

// deviceWeightOfOthers(logits, column, whole): float32 (rows)
Napi::Value weight_of_others(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceWeightOfOthers", 3);
  Operands operands(arguments, info);
  const DeviceTensor& logits = operands.training_floats(0, "logits");
  const int64_t column = arguments.integer(1, "column", 0, logits.columns() - 1);
  const auto stream = cuda::default_stream();
  DeviceTensor weights(DeviceType::kFloat32, {logits.rows()}, stream);
  cuda::weight_of_others(logits, column, arguments.boolean(2, "whole"), weights, stream);
  return wrap(info.Env(), std::move(weights));
}

// deviceMeanDivergence(divergences (rows), weights? (rows), factor): [mean (1), shares (rows)]
Napi::Value mean_divergence(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceMeanDivergence", 3);
  Operands operands(arguments, info);
  const DeviceTensor& divergences = operands.singles(0, "divergences");
  if (divergences.shape().size() != 1) arguments.fail("divergences have shape " + shape_text(divergences.shape()) + "; they must be a vector");
  const DeviceTensor* weights = operands.optional_weights(1, "weights", divergences.shape());
  const auto factor = static_cast<float>(arguments.number(2, "factor", 0, 1e6));
  const auto stream = cuda::default_stream();
  DeviceTensor mean(DeviceType::kFloat32, {1}, stream), shares(DeviceType::kFloat32, divergences.shape(), stream);
  cuda::mean_divergence(divergences, weights, factor, shares, mean, stream);
  return wrap_all(info.Env(), {&mean, &shares});
}

// deviceScaleRows(x, shares (rows), upstream (1), factor): in place
Napi::Value scale_rows(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceScaleRows", 4);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.training_floats(0, "x");
  const DeviceTensor &shares = operands.weights(1, "shares", {x.rows()}), &upstream = operands.weights(2, "upstream", {1});
  cuda::scale_rows(x, shares, upstream, static_cast<float>(arguments.number(3, "factor", 0, 1e6)), cuda::default_stream());
  return info.Env().Undefined();
}

/// Matrices of one shape, bfloat16 or float32.
struct Compared {
  const DeviceTensor *student, *teacher;

  Compared(Arguments& arguments, Operands& operands) : student(&operands.any_floats(0, "student")), teacher(&operands.like(1, "teacher", *student)) {
    if (student->type() == DeviceType::kFloat16) arguments.fail("student is float16; it must be float32 or bfloat16");
  }
};

// deviceRelativeMeanSquare(student, teacher): [value (1), factor (1)]
Napi::Value relative_mean_square(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceRelativeMeanSquare", 2);
  Operands operands(arguments, info);
  const Compared compared(arguments, operands);
  const auto stream = cuda::default_stream();
  DeviceTensor value(DeviceType::kFloat32, {1}, stream), factor(DeviceType::kFloat32, {1}, stream);
  cuda::relative_mean_square(*compared.student, *compared.teacher, value, factor, stream);
  return wrap_all(info.Env(), {&value, &factor});
}

// deviceRelativeMeanSquareBackward(student, teacher, factor (1), upstream (1)): like student
Napi::Value relative_mean_square_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceRelativeMeanSquareBackward", 4);
  Operands operands(arguments, info);
  const Compared compared(arguments, operands);
  const DeviceTensor &factor = operands.weights(2, "factor", {1}), &upstream = operands.weights(3, "upstream", {1});
  const auto stream = cuda::default_stream();
  DeviceTensor gradient(compared.student->type(), compared.student->shape(), stream);
  cuda::relative_mean_square_backward(*compared.student, *compared.teacher, factor, upstream, gradient, stream);
  return wrap(info.Env(), std::move(gradient));
}

}  // namespace

void define_device_distillation(Napi::Object exports) {
  define<softmax_divergence>(exports, "deviceSoftmaxDivergence");
  define<weight_of_others>(exports, "deviceWeightOfOthers");
  define<mean_divergence>(exports, "deviceMeanDivergence");
  define<scale_rows>(exports, "deviceScaleRows");
  define<relative_mean_square>(exports, "deviceRelativeMeanSquare");
  define<relative_mean_square_backward>(exports, "deviceRelativeMeanSquareBackward");
}

}  // namespace usmlite::binding
