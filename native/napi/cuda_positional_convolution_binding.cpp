// Training of the positional convolution of wav2vec 2.0 on the GPU: products in groups of channels, and the normalisation of their weight.
#include "cuda/grouped_products.hpp"
#include "cuda/weight_norm.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/cuda_operands.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

struct Taps {
  const DeviceTensor &gain, &direction;
};

/// The arguments `gain` float32 (1, taps) and `direction` float32 (out, taps * in), the first two.
Taps taps_arguments(const Arguments& arguments, Operands& operands) {
  const DeviceTensor& gain = operands.singles(0, "gain");
  const DeviceTensor& direction = operands.singles(1, "direction");
  const int64_t taps = gain.columns();
  if (gain.rows() != 1 || direction.shape().size() != 2 || taps == 0 || direction.columns() % taps != 0) {
    arguments.fail("gain has shape " + shape_text(gain.shape()) + " and direction " + shape_text(direction.shape()) +
                   "; they must be (1, taps) and (out, taps * in)");
  }
  return {gain, direction};
}

// deviceWeightNorm(gain, direction, stream?)
Napi::Value weight_norm(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceWeightNorm", 2);
  Operands operands(arguments, info);
  const Taps taps = taps_arguments(arguments, operands);
  const auto stream = stream_argument(arguments, info, 2);
  DeviceTensor weight(DeviceType::kFloat32, taps.direction.shape(), stream);
  cuda::weight_norm(taps.gain, taps.direction, weight, stream);
  return wrap(info.Env(), std::move(weight));
}

// deviceWeightNormBackward(gain, direction, gradient, stream?) -> [gain, direction]
Napi::Value weight_norm_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceWeightNormBackward", 3);
  Operands operands(arguments, info);
  const Taps taps = taps_arguments(arguments, operands);
  const DeviceTensor& gradient = operands.like(2, "gradient", taps.direction);
  const auto stream = stream_argument(arguments, info, 3);
  const DeviceTensor of_gain(DeviceType::kFloat32, taps.gain.shape(), stream), of_direction(DeviceType::kFloat32, taps.direction.shape(), stream);
  cuda::weight_norm_backward(taps.gain, taps.direction, gradient, of_gain, of_direction, stream);
  return wrap_all(info.Env(), {&of_gain, &of_direction});
}

/// The arguments `x` (frames, in), `weight` (out, kernel * in / groups), `groups` and `leftPadding`, the first four.
cuda::GroupedProducts products_arguments(const Arguments& arguments, Operands& operands) {
  const DeviceTensor& x = operands.floats(0, "x");
  const DeviceTensor& weight = operands.floats(1, "weight");
  const int64_t groups = arguments.integer(2, "groups", 1, 1 << 16);
  if (x.columns() % groups != 0 || weight.rows() % groups != 0) {
    arguments.fail("x has shape " + shape_text(x.shape()) + " and weight " + shape_text(weight.shape()) + ", which " + std::to_string(groups) +
                   " groups cannot share equally");
  }
  const int64_t in = x.columns() / groups, out = weight.rows() / groups;
  if (in % 8 != 0 || out % 8 != 0) {
    throw Error(error_code::kUnsupportedSpec, "groups of " + std::to_string(in) + " channels that make " + std::to_string(out) +
                                                  ": on the GPU both are multiples of 8");
  }
  if (weight.type() != x.type() || weight.columns() == 0 || in == 0 || weight.columns() % in != 0) {
    arguments.fail("weight is " + std::string(cuda::name_of(weight.type())) + " " + shape_text(weight.shape()) + "; it must be " +
                   cuda::name_of(x.type()) + " (out, kernel * " + std::to_string(in) + ")");
  }
  const int64_t left = arguments.integer(3, "leftPadding", 0, weight.columns() / in - 1);
  return {&x, &weight, static_cast<int>(groups), static_cast<int>(left)};
}

// deviceGroupedProducts(x, weight, groups, leftPadding, sequences, stream?)
Napi::Value grouped_products(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceGroupedProducts", 5);
  Operands operands(arguments, info);
  const cuda::GroupedProducts products = products_arguments(arguments, operands);
  const auto stream = stream_argument(arguments, info, 5);
  const cuda::PackedSequences sequences = operands.sequences(4, products.x->rows(), stream);
  DeviceTensor y(products.x->type(), {products.x->rows(), products.weight->rows()}, stream);
  cuda::grouped_products(products, sequences, y, stream);
  return wrap(info.Env(), std::move(y));
}

// deviceGroupedProductsBackward(x, weight, groups, leftPadding, sequences, gradient, wantsX, wantsWeight, stream?) -> [x?, weight?]
Napi::Value grouped_products_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceGroupedProductsBackward", 8);
  Operands operands(arguments, info);
  const cuda::GroupedProducts products = products_arguments(arguments, operands);
  const DeviceTensor& gradient = operands.like(5, "gradient", *products.x, {products.x->rows(), products.weight->rows()});
  const auto stream = stream_argument(arguments, info, 8);
  const cuda::PackedSequences sequences = operands.sequences(4, products.x->rows(), stream);
  const Wanted of_x(arguments.boolean(6, "wantsX"), products.x->type(), products.x->shape(), stream);
  const Wanted of_weight(arguments.boolean(7, "wantsWeight"), DeviceType::kFloat32, products.weight->shape(), stream);
  cuda::grouped_products_backward(products, sequences, gradient, of_x.get(), of_weight.get(), stream);
  return wrap_all(info.Env(), {of_x.get(), of_weight.get()});
}

}  // namespace

void define_device_positional_convolution(Napi::Object exports) {
  define<weight_norm>(exports, "deviceWeightNorm");
  define<weight_norm_backward>(exports, "deviceWeightNormBackward");
  define<grouped_products>(exports, "deviceGroupedProducts");
  define<grouped_products_backward>(exports, "deviceGroupedProductsBackward");
}

}  // namespace usmlite::binding
