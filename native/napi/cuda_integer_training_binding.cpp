// Training in whole numbers on the GPU.
#include "codec/weight_spec.hpp"
#include "cuda/double_quantization.hpp"
#include "cuda/integer_training.hpp"
#include "napi/arguments.hpp"
#include "napi/codec_arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/cuda_operands.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

// deviceIntegerWeight(spec, rows, columns, activations): a weight that deviceFillIntegerWeight is to fill
Napi::Value integer_weight(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceIntegerWeight", 4);
  cuda::gpu_properties();
  const codec::WeightSpec spec = codec::parse_weight_spec(arguments.text(0, "spec"));
  const auto rows = arguments.integer(1, "rows", 1, kMaximumRows), columns = arguments.integer(2, "columns", 1, kMaximumColumns);
  const auto unsupported = [&](const std::string& why) {
    throw Error(error_code::kUnsupportedSpec, codec::to_text(spec) + " is not trained in whole numbers on the GPU: " + why);
  };
  if (!spec.is_integer()) unsupported("its levels are floats");
  if (columns % 8 != 0) unsupported("rows have " + std::to_string(columns) + " inputs, no multiple of 8");
  return DeviceWeightObject::wrap(info.Env(), std::make_shared<cuda::DeviceWeight>(static_cast<int>(rows), static_cast<int>(columns), spec,
                                                                                   integer_activations_argument(arguments, 3)));
}

// deviceFillIntegerWeight(integers, weight, scale, zeroPoint?, stream?)
Napi::Value fill_integer_weight(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceFillIntegerWeight", 3);
  Operands operands(arguments, info);
  const auto integers = DeviceWeightObject::from(arguments, info[0], "integers");
  const cuda::WeightView& view = integers->view();
  if (!integers->fillable()) arguments.fail("integers must be a weight of DeviceWeight.ofIntegers");
  const DeviceTensor& weight = operands.weights(1, "weight", {view.channels, view.inputs});
  const codec::WeightSpec spec = codec::parse_weight_spec(integers->spec());
  const std::vector<int64_t> of_scales{view.channels, spec.scales_per_row(view.inputs)};
  const DeviceTensor& scale = operands.weights(2, "scale", of_scales);
  if (spec.has_zero_points() != arguments.has(3)) {
    arguments.fail(integers->spec() + (arguments.has(3) ? " has no zero points" : " needs zero points beside its scales"));
  }
  const DeviceTensor* const zero_point = operands.optional_weights(3, "zeroPoint", of_scales);
  const auto stream = stream_argument(arguments, info, 4);
  if (!spec.double_quantized) {
    cuda::fill_integer_weight(*integers, weight, {scale, zero_point}, stream);
    return info.Env().Undefined();
  }
  const DeviceTensor quantized_scale(DeviceType::kFloat32, of_scales, stream);
  cuda::quantize_scales(scale, quantized_scale, stream);
  cuda::fill_integer_weight(*integers, weight, {quantized_scale, zero_point}, stream);
  return info.Env().Undefined();
}

// devicePadBias(weight, bias, stream?): (padded channels), as deviceLinear takes it
Napi::Value pad_bias(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "devicePadBias", 2);
  Operands operands(arguments, info);
  const auto weight = DeviceWeightObject::from(arguments, info[0], "weight");
  if (weight->order() != cuda::ChannelOrder::kPlain) arguments.fail("the channels of this weight are interleaved with their gates; use arrangeBias");
  const DeviceTensor& bias = operands.weights(1, "bias", {weight->view().channels});
  const auto stream = stream_argument(arguments, info, 2);
  DeviceTensor padded(DeviceType::kFloat32, {weight->padded_channels()}, stream);
  cuda::pad_bias(bias, padded, stream);
  return wrap(info.Env(), std::move(padded));
}

// deviceRoundRows(x, activations, stream?): x as products in int8 arithmetic see it
Napi::Value round_rows(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceRoundRows", 2);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.training_floats(0, "x");
  const auto stream = stream_argument(arguments, info, 2);
  DeviceTensor y(x.type(), x.shape(), stream);
  cuda::widen_rows(cuda::quantize_rows(x, integer_activations_argument(arguments, 1), stream), y, stream);
  return wrap(info.Env(), std::move(y));
}

}  // namespace

void define_device_integer_training(Napi::Object exports) {
  define<integer_weight>(exports, "deviceIntegerWeight");
  define<fill_integer_weight>(exports, "deviceFillIntegerWeight");
  define<pad_bias>(exports, "devicePadBias");
  define<round_rows>(exports, "deviceRoundRows");
}

}  // namespace usmlite::binding
