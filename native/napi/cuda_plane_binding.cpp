// Convolution over time and frequency on the GPU, and its gradients.
#include "cuda/plane_convolution.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/cuda_operands.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

/// The arguments x, weight (channels, 9), (another), features, stride, padding, relu, sequences, outputs.
struct Plane {
  cuda::PlaneConvolutionArguments convolution{};
  std::shared_ptr<cuda::DeviceSequences> outputs;
  std::vector<int64_t> output_shape;
};

Plane plane_argument(const Arguments& arguments, const Napi::CallbackInfo& info, Operands& operands) {
  Plane plane;
  cuda::PlaneConvolutionArguments& convolution = plane.convolution;
  const DeviceTensor& x = operands.floats(0, "x");
  convolution.x = &x;
  const int64_t channels = DeviceTensorObject::from(arguments, info[1], "weight")->rows();
  convolution.weight = &operands.weights(1, "weight", {channels, cuda::kPlaneKernel * cuda::kPlaneKernel});
  if (channels % 8 != 0) {
    throw Error(error_code::kUnsupportedSpec, "a convolution over time and frequency has " + std::to_string(channels) +
                                                  " channels; on the GPU it can have a multiple of 8");
  }
  const int64_t features = arguments.integer(3, "features", 1, 1 << 16);
  convolution.depthwise = x.columns() != features;
  if (convolution.depthwise && x.columns() != features * channels) {
    arguments.fail("x has " + std::to_string(x.columns()) + " columns; they must be " + std::to_string(features) + " features, or " +
                   std::to_string(channels) + " channels of each");
  }
  convolution.features = static_cast<int>(features);
  convolution.stride = static_cast<int>(arguments.integer(4, "stride", 1, 1 << 16));
  convolution.padding = static_cast<int>(arguments.integer(5, "padding", 0, cuda::kPlaneKernel - 1));
  convolution.relu = arguments.boolean(6, "relu");
  const cuda::Shortening shortening{cuda::kPlaneKernel, convolution.stride, convolution.padding};
  convolution.output_features = static_cast<int>(shortening.length(features));
  const auto inputs = DeviceSequencesObject::from(arguments, info[7], "sequences");
  plane.outputs = DeviceSequencesObject::from(arguments, info[8], "outputs");
  const std::vector<int32_t>&before = inputs->offsets(), &after = plane.outputs->offsets();
  bool fits = before.size() == after.size();
  for (size_t i = 1; fits && i < before.size(); ++i) fits = after[i] - after[i - 1] == shortening.length(before[i] - before[i - 1]);
  if (!fits) arguments.fail("the outputs are not what this convolution makes of the sequences of x");
  plane.output_shape = {plane.outputs->frames(), convolution.output_features * channels};
  return plane;
}

// devicePlaneConvolution(x, weight (channels, 9), bias, features, stride, padding, relu, sequences, outputs, stream?)
Napi::Value plane_convolution(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "devicePlaneConvolution", 9);
  Operands operands(arguments, info);
  Plane plane = plane_argument(arguments, info, operands);
  const DeviceTensor& x = operands.floats(0, "x");
  plane.convolution.bias = &operands.weights(2, "bias", {plane.convolution.weight->rows()});
  const auto stream = stream_argument(arguments, info, 9);
  const cuda::PackedSequences sequences = operands.sequences(7, x.rows(), stream);
  DeviceTensor y(x.type(), plane.output_shape, stream);
  cuda::plane_convolution(plane.convolution, sequences, plane.outputs->use_on(stream), y, stream);
  return wrap(info.Env(), std::move(y));
}

// devicePlaneConvolutionBackward(x, weight (channels, 9), y?, features, stride, padding, relu, sequences, outputs, gradient, wantsX,
//                                wantsWeight, wantsBias, stream?) -> [x?, weight?, bias?]
Napi::Value plane_convolution_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "devicePlaneConvolutionBackward", 13);
  Operands operands(arguments, info);
  const Plane plane = plane_argument(arguments, info, operands);
  const cuda::PlaneConvolutionArguments& convolution = plane.convolution;
  const DeviceTensor& x = operands.training_floats(0, "x");
  if (convolution.relu && !arguments.has(2)) arguments.fail("y is needed for the slope of relu");
  const DeviceTensor* y = convolution.relu ? &operands.like(2, "y", x, plane.output_shape) : nullptr;
  const DeviceTensor& gradient = operands.like(9, "gradient", x, plane.output_shape);
  const auto stream = stream_argument(arguments, info, 13);
  const cuda::PackedSequences sequences = operands.sequences(7, x.rows(), stream);
  const Wanted of_x(arguments.boolean(10, "wantsX"), x.type(), x.shape(), stream);
  const Wanted of_weight(arguments.boolean(11, "wantsWeight"), DeviceType::kFloat32, {convolution.weight->rows(), convolution.weight->columns()},
                         stream);
  const Wanted of_bias(arguments.boolean(12, "wantsBias"), DeviceType::kFloat32, {convolution.weight->rows()}, stream);
  cuda::plane_convolution_backward({convolution, y, &gradient, of_x.get(), of_weight.get(), of_bias.get()}, sequences,
                                   plane.outputs->use_on(stream), stream);
  return wrap_all(info.Env(), {of_x.get(), of_weight.get(), of_bias.get()});
}

}  // namespace

void define_device_plane(Napi::Object exports) {
  define<plane_convolution>(exports, "devicePlaneConvolution");
  define<plane_convolution_backward>(exports, "devicePlaneConvolutionBackward");
}

}  // namespace usmlite::binding
