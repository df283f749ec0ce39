// Quantization-aware training on the GPU: fake quantization and masks.
#include "cuda/double_quantization.hpp"
#include "cuda/fake_quantize.hpp"
#include "cuda/weight_mask.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/cuda_operands.hpp"
#include "napi/groups.hpp"
#include "napi/quantization_arguments.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

std::shared_ptr<DeviceTensor> mask_argument(const Arguments& arguments, const Napi::CallbackInfo& info, size_t index, const DeviceTensor& like) {
  auto mask = DeviceTensorObject::from(arguments, info[index], "mask");
  if (mask->type() != DeviceType::kInt8 || mask->shape() != like.shape()) {
    arguments.fail(std::string("the mask is ") + cuda::name_of(mask->type()) + " " + shape_text(mask->shape()) + "; it must be int8 " +
                   shape_text(like.shape()));
  }
  return mask;
}

const DeviceTensor& single_matrix(const Arguments& arguments, Operands& operands, size_t index) {
  const DeviceTensor& weight = operands.any_floats(index, "weight");
  if (weight.type() != DeviceType::kFloat32 || weight.shape().size() != 2) arguments.fail("the weight must be a float32 matrix");
  return weight;
}

/// What is quantized: weight, spec, mask? at 0, 1, 2
struct Quantized {
  Quantized(const Arguments& arguments, const Napi::CallbackInfo& info, Operands& operands)
      : weight(single_matrix(arguments, operands, 0)), spec(codec::parse_weight_spec(arguments.text(1, "spec"))) {
    if (!spec.is_integer()) arguments.fail(codec::to_text(spec) + " has no scales");
    if (arguments.has(2)) mask = mask_argument(arguments, info, 2, weight);
  }
  cuda::DeviceWeightGroups groups() const { return {weight, mask.get(), spec}; }
  std::vector<int64_t> scale_shape() const { return {weight.rows(), groups().groups_per_row()}; }

  const DeviceTensor& weight;
  codec::WeightSpec spec;
  std::shared_ptr<DeviceTensor> mask;
};

/// With scales, and how it is rounded: scale, zeroPoint?, rounding, seed at 3, 4, 5, 6
struct Rounded : Quantized {
  Rounded(const Arguments& arguments, const Napi::CallbackInfo& info, Operands& operands, const cuda::Stream& stream)
      : Quantized(arguments, info, operands),
        found(operands.weights(3, "scale", scale_shape())),
        zero_point(operands.optional_weights(4, "zeroPoint", scale_shape())),
        rounding(rounding_argument(arguments, 5, spec)),
        seed(arguments.seed(6)) {
    check_zero_points(arguments, spec, zero_point != nullptr);
    if (!spec.double_quantized) return;
    quantized_scale = DeviceTensor(DeviceType::kFloat32, scale_shape(), stream);
    cuda::quantize_scales(found, quantized_scale, stream);
  }
  cuda::DeviceQuantization quantization() const { return {groups(), spec.double_quantized ? quantized_scale : found, zero_point, rounding, seed}; }

  const DeviceTensor& found;  // as it is given, before it is quantized
  const DeviceTensor* zero_point;
  codec::Rounding rounding;
  uint64_t seed;
  DeviceTensor quantized_scale;
};

/// What group_scales writes.
struct MeasuredScales {
  MeasuredScales(const Quantized& q, const cuda::Stream& stream)
      : scale(DeviceTensor::with_open_gaps(DeviceType::kFloat32, q.scale_shape(), stream)) {
    if (q.spec.has_zero_points()) zero_point = DeviceTensor::with_open_gaps(DeviceType::kFloat32, q.scale_shape(), stream);
  }
  const DeviceTensor* zero_point_or_null() const { return zero_point.released() ? nullptr : &zero_point; }

  DeviceTensor scale, zero_point;
};

// deviceGroupScales(weight, spec, mask?, statistic, clip, powerOfTwo, searchSteps, searchLowest): [scale, zeroPoint?]
Napi::Value group_scales(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceGroupScales", 8);
  Operands operands(arguments, info);
  const Quantized q(arguments, info, operands);
  const codec::ScaleRule rule = scale_rule(arguments, 3, q.spec);
  const auto stream = cuda::default_stream();
  const MeasuredScales scales(q, stream);
  cuda::group_scales(q.groups(), rule, scales.scale, scales.zero_point_or_null(), stream);
  return wrap_all(info.Env(), {&scales.scale, scales.zero_point_or_null()});
}

DeviceType rounded_type(const Arguments& arguments, size_t index) {
  return choice(arguments, index, "type", std::map<std::string, DeviceType>{{"float32", DeviceType::kFloat32}, {"bfloat16", DeviceType::kBFloat16}});
}

// deviceFakeQuantize(weight, spec, mask?, scale, zeroPoint?, rounding, seed, type)
Napi::Value fake_quantize(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceFakeQuantize", 8);
  Operands operands(arguments, info);
  const auto stream = cuda::default_stream();
  const Rounded q(arguments, info, operands, stream);
  DeviceTensor output(rounded_type(arguments, 7), q.weight.shape(), stream);
  cuda::fake_quantize(q.quantization(), output, stream);
  return wrap(info.Env(), std::move(output));
}

// deviceScaleAndRound(weight, spec, mask?, rounding, seed, type, statistic, clip, powerOfTwo, searchSteps, searchLowest): [output, scale, zeroPoint?]
Napi::Value scale_and_round(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceScaleAndRound", 11);
  Operands operands(arguments, info);
  const Quantized q(arguments, info, operands);
  const codec::Rounding rounding = rounding_argument(arguments, 3, q.spec);
  const uint64_t seed = arguments.seed(4);
  const codec::ScaleRule rule = scale_rule(arguments, 6, q.spec);
  const auto stream = cuda::default_stream();
  const DeviceTensor output(rounded_type(arguments, 5), q.weight.shape(), stream);
  const MeasuredScales scales(q, stream);
  cuda::scale_and_round(q.groups(), rule, scales.scale, scales.zero_point_or_null(), rounding, seed, output, stream);
  return wrap_all(info.Env(), {&output, &scales.scale, scales.zero_point_or_null()});
}

// deviceFakeQuantizeBackward(weight, spec, mask?, scale, zeroPoint?, rounding, seed, gradient, clipped, throughMask, scaleDecay, wantsScale,
// throughStatistic?): [weight, scale?, zeroPoint?]
Napi::Value fake_quantize_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceFakeQuantizeBackward", 12);
  Operands operands(arguments, info);
  const auto stream = cuda::default_stream();
  const Rounded q(arguments, info, operands, stream);
  const DeviceTensor& gradient = operands.like(7, "gradient", q.weight);
  const bool wants_scale = arguments.boolean(11, "wantsScale"), through_scale = arguments.has(12);
  const cuda::DeviceGradientChoices choices{arguments.boolean(8, "clipped"), arguments.boolean(9, "throughMask"),
                                            static_cast<float>(arguments.number(10, "scaleDecay", -1e30, 1e30)), through_scale ? &q.found : nullptr,
                                            through_scale ? statistic_argument(arguments, 12, q.spec) : codec::ScaleStatistic::kFormat};
  const DeviceTensor weight_gradient(DeviceType::kFloat32, q.weight.shape(), stream);
  const Wanted scale_gradient(wants_scale, DeviceType::kFloat32, q.scale_shape(), stream);
  const Wanted zero_point_gradient(wants_scale && q.spec.has_zero_points(), DeviceType::kFloat32, q.scale_shape(), stream);
  cuda::fake_quantize_backward(q.quantization(), gradient, choices, {weight_gradient, scale_gradient.get(), zero_point_gradient.get()}, stream);
  return wrap_all(info.Env(), {&weight_gradient, scale_gradient.get(), zero_point_gradient.get()});
}

// deviceMagnitudeMask(weight, n, m): int8
Napi::Value magnitude_mask(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceMagnitudeMask", 3);
  Operands operands(arguments, info);
  const DeviceTensor& weight = single_matrix(arguments, operands, 0);
  const int64_t of = arguments.integer(2, "m", 2, 16), kept = arguments.integer(1, "n", 1, of - 1);
  const auto stream = cuda::default_stream();
  DeviceTensor mask(DeviceType::kInt8, weight.shape(), stream);
  cuda::magnitude_mask(weight, static_cast<int>(kept), static_cast<int>(of), mask, stream);
  return wrap(info.Env(), std::move(mask));
}

// deviceApplyMask(x, mask, pruned)
Napi::Value apply_mask(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceApplyMask", 3);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.any_floats(0, "x");
  if (x.type() != DeviceType::kFloat32) arguments.fail(std::string("x is ") + cuda::name_of(x.type()) + "; it must be float32");
  const auto mask = mask_argument(arguments, info, 1, x);
  const auto stream = cuda::default_stream();
  DeviceTensor y(DeviceType::kFloat32, x.shape(), stream);
  cuda::apply_mask(x, *mask, static_cast<float>(arguments.number(2, "pruned", 0.0, 1.0)), y, stream);
  return wrap(info.Env(), std::move(y));
}

// deviceCountMaskChanges(before, after, counts (1, 64)): overwrites counts
Napi::Value count_mask_changes(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceCountMaskChanges", 3);
  const auto before = DeviceTensorObject::from(arguments, info[0], "before"), after = DeviceTensorObject::from(arguments, info[1], "after");
  if (before->type() != DeviceType::kInt8 || after->type() != DeviceType::kInt8) arguments.fail("before and after must be int8");
  if (before->shape() != after->shape()) {
    arguments.fail("before must have shape " + shape_text(after->shape()) + " like after but has " + shape_text(before->shape()));
  }
  Operands operands(arguments, info);
  const DeviceTensor& counts = operands.weights(2, "counts", {1, cuda::kMaskChangeCounts});
  cuda::count_mask_changes(*before, *after, counts, cuda::default_stream());
  return info.Env().Undefined();
}

}  // namespace

void define_device_quantization(Napi::Object exports) {
  define<group_scales>(exports, "deviceGroupScales");
  define<fake_quantize>(exports, "deviceFakeQuantize");
  define<scale_and_round>(exports, "deviceScaleAndRound");
  define<fake_quantize_backward>(exports, "deviceFakeQuantizeBackward");
  define<magnitude_mask>(exports, "deviceMagnitudeMask");
  define<apply_mask>(exports, "deviceApplyMask");
  define<count_mask_changes>(exports, "deviceCountMaskChanges");
}

}  // namespace usmlite::binding
