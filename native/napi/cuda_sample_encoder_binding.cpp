// What encoders of samples do on the GPU besides products with weights and what all encoders do.
#include <string>
#include <vector>

#include "cuda/activation.hpp"
#include "cuda/gather_windows.hpp"
#include "cuda/grouped_convolution.hpp"
#include "cuda/instance_norm.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/cuda_operands.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

// deviceSampleWindows(x float32 (samples), sequences, kernel, stride, outputs, stream?): bfloat16
Napi::Value sample_windows(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceSampleWindows", 5);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.singles(0, "x");
  if (x.shape().size() != 1) arguments.fail("x has shape " + shape_text(x.shape()) + "; samples on the GPU are a vector");
  const int64_t kernel = arguments.integer(2, "kernel", 1, 1 << 16), stride = arguments.integer(3, "stride", 1, 1 << 16);
  const auto inputs = DeviceSequencesObject::from(arguments, info[1], "sequences"),
             outputs = DeviceSequencesObject::from(arguments, info[4], "outputs");
  const auto stream = stream_argument(arguments, info, 5);
  const cuda::PackedSequences sequences = operands.sequences(1, x.columns(), stream);
  check_windows(arguments, *inputs, *outputs, kernel, stride);
  DeviceTensor y(DeviceType::kBFloat16, {outputs->frames(), (kernel + 7) / 8 * 8}, stream);
  cuda::sample_windows(x, sequences, static_cast<int>(kernel), static_cast<int>(stride), outputs->use_on(stream), y, stream);
  return wrap(info.Env(), std::move(y));
}

// deviceInstanceNorm(x, sequences, weight, bias, epsilon, stream?)
Napi::Value instance_norm(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceInstanceNorm", 5);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.floats(0, "x");
  const DeviceTensor& weight = operands.weights(2, "weight", {x.columns()});
  const DeviceTensor& bias = operands.weights(3, "bias", {x.columns()});
  const auto epsilon = static_cast<float>(arguments.number(4, "epsilon", 0.0, 1.0));
  const auto stream = stream_argument(arguments, info, 5);
  const cuda::PackedSequences sequences = operands.sequences(1, x.rows(), stream);
  DeviceTensor y(x.type(), x.shape(), stream);
  cuda::instance_norm(x, sequences, weight, bias, epsilon, y, stream);
  return wrap(info.Env(), std::move(y));
}

// deviceGelu(x, inPlace, stream?)
Napi::Value gelu(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceGelu", 2);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.floats(0, "x");
  const auto stream = stream_argument(arguments, info, 2);
  if (arguments.boolean(1, "inPlace")) {
    cuda::gelu(x, x, stream);
    return info.Env().Undefined();
  }
  DeviceTensor y(x.type(), x.shape(), stream);
  cuda::gelu(x, y, stream);
  return wrap(info.Env(), std::move(y));
}

template <typename T>
std::vector<std::shared_ptr<T>> list_argument(const Arguments& arguments, Napi::Value list, const std::string& name) {
  if (!list.IsArray()) arguments.fail(name + " must be an array with one for each group");
  const auto array = list.As<Napi::Array>();
  std::vector<std::shared_ptr<T>> result;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    result.push_back(ObjectHandle<T>::from(arguments, array.Get(i), name + "[" + std::to_string(i) + "]"));
  }
  return result;
}

// deviceGroupedConvolution(x, sequences, weights, biases, kernel, leftPadding, gelu, residual, batchInvariant, stream?): `biases` may be
// empty, residual undefined
Napi::Value grouped_convolution(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceGroupedConvolution", 9);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.floats(0, "x");
  const auto weights = list_argument<cuda::DeviceWeight>(arguments, info[2], "weights");
  const auto biases = list_argument<DeviceTensor>(arguments, info[3], "biases");
  const auto groups = static_cast<int64_t>(weights.size());
  if (groups == 0 || x.columns() % groups != 0) {
    arguments.fail("x has " + std::to_string(x.columns()) + " columns, which " + std::to_string(groups) + " groups cannot share equally");
  }
  if (!biases.empty() && biases.size() != weights.size()) arguments.fail("biases must be as many as weights, or none");
  const int64_t kernel = arguments.integer(4, "kernel", 1, 1 << 16), left = arguments.integer(5, "leftPadding", 0, kernel - 1);
  const int64_t in = x.columns() / groups, out = weights.front()->outputs();
  if (in % 8 != 0 || out % 8 != 0) {
    throw Error(error_code::kUnsupportedSpec, "groups of " + std::to_string(in) + " channels that make " + std::to_string(out) +
                                                  ": on the GPU both are multiples of 8");
  }
  cuda::GroupedConvolution convolution{&x, {}, {}, static_cast<int>(kernel), static_cast<int>(left),
                                       arguments.boolean(6, "gelu") ? cuda::Activation::kGelu : cuda::Activation::kNone, nullptr,
                                       arguments.boolean(8, "batchInvariant"), nullptr};
  for (const auto& weight : weights) {
    if (weight->outputs() != out || weight->view().inputs != kernel * in) {
      arguments.fail("a weight is (" + std::to_string(weight->outputs()) + ", " + std::to_string(weight->view().inputs) +
                     "); those of all groups must be (" + std::to_string(out) + ", " + std::to_string(kernel * in) + ")");
    }
    convolution.weights.push_back(weight.get());
  }
  for (const auto& bias : biases) convolution.biases.push_back(bias.get());
  const std::vector<int64_t> shape{x.rows(), groups * out};
  if (arguments.has(7)) convolution.residual = &operands.like(7, "residual", x, shape);
  const auto stream = stream_argument(arguments, info, 9);
  const cuda::PackedSequences sequences = operands.sequences(1, x.rows(), stream);
  DeviceTensor y(x.type(), shape, stream);
  convolution.y = &y;
  cuda::grouped_convolution(convolution, sequences, stream);
  return wrap(info.Env(), std::move(y));
}

}  // namespace

void define_device_sample_encoder(Napi::Object exports) {
  define<sample_windows>(exports, "deviceSampleWindows");
  define<instance_norm>(exports, "deviceInstanceNorm");
  define<gelu>(exports, "deviceGelu");
  define<grouped_convolution>(exports, "deviceGroupedConvolution");
}

}  // namespace usmlite::binding
