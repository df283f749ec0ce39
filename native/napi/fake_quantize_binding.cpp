#include "cpu/fake_quantize.hpp"
#include "cpu/round_rows.hpp"

#include <map>
#include <string>

#include "codec/weight_spec.hpp"
#include "napi/arguments.hpp"
#include "napi/codec_arguments.hpp"
#include "napi/groups.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

using codec::Rounding;
using codec::ScaleStatistic;

template <typename Value>
Value choice(const Arguments& arguments, size_t index, const char* name, const std::map<std::string, Value>& values) {
  const auto entry = values.find(arguments.text(index, name));
  if (entry != values.end()) return entry->second;
  std::string known;
  for (const auto& [text, _] : values) known.append(known.empty() ? "" : ", ").append(text);
  arguments.fail(arguments.text(index, name).insert(0, 1, '"') + "\" is no " + name + "; these are: " + known);
}

// weight (rows, columns), spec, mask?: the first arguments of the functions below
cpu::WeightGroups weight_groups(const Arguments& arguments) {
  const Tensor& weight = arguments.tensor(0, "weight", DType::kFloat32, {kAny, kAny});
  const codec::WeightSpec spec = codec::parse_weight_spec(arguments.text(1, "spec"));
  const Tensor* mask = arguments.optional_tensor(2, "mask", DType::kUint8, {weight.dim(0), weight.dim(1)});
  if (!spec.is_integer()) arguments.fail(codec::to_text(spec) + " has no scales");
  return {weight.f32(), mask ? mask->data<uint8_t>() : nullptr, weight.dim(0), weight.dim(1), spec};
}

// statistic, clip, powerOfTwo, searchSteps, searchLowest
codec::ScaleRule scale_rule(const Arguments& arguments, size_t first, const codec::WeightSpec& spec) {
  static const std::map<std::string, ScaleStatistic> statistics = {
      {"format", ScaleStatistic::kFormat}, {"maximum", ScaleStatistic::kMaximum},     {"edge", ScaleStatistic::kEdge},
      {"mean", ScaleStatistic::kMean},     {"threshold", ScaleStatistic::kThreshold}, {"centred", ScaleStatistic::kCentred}};
  codec::ScaleRule rule;
  rule.statistic = choice(arguments, first, "statistic", statistics);
  rule.clip = static_cast<float>(arguments.number(first + 1, "clip", 0.01, 100.0));
  rule.power_of_two = arguments.boolean(first + 2, "powerOfTwo");
  rule.search_steps = static_cast<int>(arguments.integer(first + 3, "searchSteps", 0, 1000));
  rule.search_lowest = static_cast<float>(arguments.number(first + 4, "searchLowest", 0.01, 1.0));
  const std::string text = codec::format_text(spec);
  const bool mean = rule.statistic == ScaleStatistic::kMean || rule.statistic == ScaleStatistic::kThreshold ||
                    rule.statistic == ScaleStatistic::kCentred;
  if (mean && spec.has_zero_points()) arguments.fail("the scale of " + text + " is measured by the range, not by a mean");
  if (rule.statistic == ScaleStatistic::kThreshold && text != "ternary") arguments.fail("threshold is for ternary, not for " + text);
  if (rule.statistic == ScaleStatistic::kCentred && text != "int1") arguments.fail("centred is for int1, not for " + text);
  return rule;
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
  static const std::map<std::string, Rounding> roundings = {{"nearest", Rounding::kNearest},
                                                            {"stochastic", Rounding::kStochastic},
                                                            {"noise", Rounding::kNoise},
                                                            {"threshold", Rounding::kThreshold},
                                                            {"centred", Rounding::kCentred}};
  const cpu::WeightGroups weights = weight_groups(arguments);
  const Tensor& scale = arguments.tensor(3, "scale", DType::kFloat32, {weights.rows, weights.groups_per_row()});
  const bool has_zero_points = weights.spec.has_zero_points();
  const Tensor* zero_point = arguments.optional_tensor(4, "zeroPoint", DType::kFloat32, {weights.rows, weights.groups_per_row()});
  if ((zero_point != nullptr) != has_zero_points) {
    arguments.fail(codec::to_text(weights.spec) + (has_zero_points ? " needs zero points beside its scales" : " has no zero points"));
  }
  const Rounding rounding = choice(arguments, 5, "rounding", roundings);
  if (rounding == Rounding::kStochastic && weights.spec.format == codec::NumberFormat::kNormalFloat4) {
    arguments.fail("nf4 is rounded to the nearest level or not at all, never stochastically");
  }
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
