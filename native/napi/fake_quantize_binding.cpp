#include "cpu/fake_quantize.hpp"
#include "cpu/round_rows.hpp"

#include "codec/weight_spec.hpp"
#include "napi/arguments.hpp"
#include "napi/codec_arguments.hpp"
#include "napi/groups.hpp"
#include "napi/quantization_arguments.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

// weight (rows, columns), spec, mask?: the first arguments of the functions below
cpu::WeightGroups weight_groups(const Arguments& arguments) {
  const Tensor& weight = arguments.tensor(0, "weight", DType::kFloat32, {kAny, kAny});
  const codec::WeightSpec spec = codec::parse_weight_spec(arguments.text(1, "spec"));
  const Tensor* mask = arguments.optional_tensor(2, "mask", DType::kUint8, {weight.dim(0), weight.dim(1)});
  if (!spec.is_integer()) arguments.fail(codec::to_text(spec) + " has no scales");
  return {weight.f32(), mask ? mask->data<uint8_t>() : nullptr, weight.dim(0), weight.dim(1), spec};
}

// groupScales(weight, spec, mask?, statistic, clip, powerOfTwo, searchSteps, searchLowest) -> { scale, zeroPoint? }
Napi::Value group_scales(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "groupScales", 8);
  const cpu::WeightGroups weights = weight_groups(arguments);
  const codec::ScaleRule rule = scale_rule(arguments, 3, weights.spec);
  Tensor scale(DType::kFloat32, {weights.rows, weights.groups_per_row()});
  Tensor zero_point(DType::kFloat32, {weights.rows, weights.spec.zero_points_per_row(weights.columns)});
  const bool has_zero_points = weights.spec.has_zero_points();
  cpu::group_scales(weights, rule, scale.f32(), has_zero_points ? zero_point.f32() : nullptr);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("scale", TensorHandle::wrap(info.Env(), std::move(scale)));
  if (has_zero_points) result.Set("zeroPoint", TensorHandle::wrap(info.Env(), std::move(zero_point)));
  return result;
}

struct Quantization {
  Tensor scale;
  cpu::FakeQuantization values;  // views the scale
};

// weight, spec, mask?, scale, zeroPoint?, rounding, seed
Quantization quantization(const Arguments& arguments) {
  const cpu::WeightGroups weights = weight_groups(arguments);
  const Tensor& scale = arguments.tensor(3, "scale", DType::kFloat32, {weights.rows, weights.groups_per_row()});
  const Tensor* zero_point = arguments.optional_tensor(4, "zeroPoint", DType::kFloat32, {weights.rows, weights.groups_per_row()});
  check_zero_points(arguments, weights.spec, zero_point != nullptr);
  const codec::Rounding rounding = rounding_argument(arguments, 5, weights.spec);
  const Tensor used = packed_scales(weights.spec, scale);
  return {used, {{weights}, used.f32(), zero_point ? zero_point->f32() : nullptr, rounding, arguments.seed(6)}};
}

// fakeQuantize(weight, spec, mask?, scale, zeroPoint?, rounding, seed)
Napi::Value fake_quantize(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "fakeQuantize", 7);
  const auto [scale, q] = quantization(arguments);
  Tensor output(DType::kFloat32, {q.rows, q.columns});
  cpu::fake_quantize(q, output.f32());
  return TensorHandle::wrap(info.Env(), std::move(output));
}

// fakeQuantizeBackward(weight, spec, mask?, scale, zeroPoint?, rounding, seed, outputGradient, clipped, throughMask)
// -> { weight, scale, zeroPoint? }
Napi::Value fake_quantize_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "fakeQuantizeBackward", 10);
  const auto [scale, q] = quantization(arguments);
  const Tensor& gradient = arguments.tensor(7, "outputGradient", DType::kFloat32, {q.rows, q.columns});
  Tensor weight_gradient(DType::kFloat32, {q.rows, q.columns});
  Tensor scale_gradient(DType::kFloat32, {q.rows, q.groups_per_row()});
  Tensor zero_point_gradient(DType::kFloat32, {q.rows, q.spec.zero_points_per_row(q.columns)});
  const bool has_zero_points = q.spec.has_zero_points();
  const cpu::GradientChoices choices{arguments.boolean(8, "clipped"), arguments.boolean(9, "throughMask")};
  const cpu::FakeQuantizationGradients gradients{weight_gradient.f32(), scale_gradient.f32(),
                                                 has_zero_points ? zero_point_gradient.f32() : nullptr};
  cpu::fake_quantize_backward(q, gradient.f32(), choices, gradients);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("weight", TensorHandle::wrap(info.Env(), std::move(weight_gradient)));
  result.Set("scale", TensorHandle::wrap(info.Env(), std::move(scale_gradient)));
  if (has_zero_points) result.Set("zeroPoint", TensorHandle::wrap(info.Env(), std::move(zero_point_gradient)));
  return result;
}

// addScaleGradients(weight, spec, mask?, statistic, clip, powerOfTwo, searchSteps, searchLowest, scale, scaleGradient,
// zeroPointGradient?, weightGradient): adds to the last
Napi::Value add_scale_gradients(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "addScaleGradients", 12);
  const cpu::WeightGroups weights = weight_groups(arguments);
  const codec::ScaleRule rule = scale_rule(arguments, 3, weights.spec);
  const std::initializer_list<int64_t> shape = {weights.rows, weights.groups_per_row()};
  const Tensor& scale = arguments.tensor(8, "scale", DType::kFloat32, shape);
  const Tensor& scale_gradient = arguments.tensor(9, "scaleGradient", DType::kFloat32, shape);
  const Tensor* zero_point_gradient = arguments.optional_tensor(10, "zeroPointGradient", DType::kFloat32, shape);
  Tensor weight_gradient = arguments.tensor(11, "weightGradient", DType::kFloat32, {weights.rows, weights.columns});
  cpu::add_scale_gradients(weights, rule, scale.f32(), scale_gradient.f32(),
                           zero_point_gradient ? zero_point_gradient->f32() : nullptr, weight_gradient.f32());
  return info.Env().Undefined();
}

// applyMask(x, mask, pruned): x where the mask is set, pruned * x elsewhere
Napi::Value apply_mask(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "applyMask", 3);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32);
  const Tensor& mask = arguments.tensor(1, "mask", DType::kUint8);
  if (mask.shape() != x.shape()) arguments.fail("the mask must have the shape of x");
  const float pruned = static_cast<float>(arguments.number(2, "pruned", 0.0, 1.0));
  Tensor output(DType::kFloat32, x.shape());
  cpu::apply_mask(x.f32(), mask.data<uint8_t>(), pruned, output.f32(), output.count());
  return TensorHandle::wrap(info.Env(), std::move(output));
}

// roundRows(x (rows, columns), activations): x as products of whole numbers see it
Napi::Value round_rows(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "roundRows", 2);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  static const std::map<std::string, cpu::ActivationCoding> codings = {{"int8", cpu::ActivationCoding::kInt8},
                                                                       {"int8-asymmetric", cpu::ActivationCoding::kInt8Asymmetric},
                                                                       {"int4", cpu::ActivationCoding::kInt4}};
  const cpu::ActivationCoding coding = choice(arguments, 1, "activations", codings);
  Tensor output(DType::kFloat32, x.shape());
  cpu::round_rows(x.f32(), x.dim(0), x.dim(1), coding, output.f32());
  return TensorHandle::wrap(info.Env(), std::move(output));
}

}  // namespace

void define_fake_quantize(Napi::Object exports) {
  define<group_scales>(exports, "groupScales");
  define<fake_quantize>(exports, "fakeQuantize");
  define<fake_quantize_backward>(exports, "fakeQuantizeBackward");
  define<add_scale_gradients>(exports, "addScaleGradients");
  define<round_rows>(exports, "roundRows");
  define<apply_mask>(exports, "applyMask");
}

}  // namespace usmlite::binding
