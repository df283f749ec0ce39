// Training on the GPU: products, what follows them in linear layers, the optimizer and what distillation compares.
#include "cuda/elementwise.hpp"
#include "cuda/linear_finish.hpp"
#include "cuda/optimizer.hpp"
#include "cuda/training_product.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/cuda_operands.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

struct Product {
  std::shared_ptr<DeviceTensor> a, b;
  bool transpose_a, transpose_b;
  float scale;

  explicit Product(Arguments& arguments, const Napi::CallbackInfo& info)
      : a(DeviceTensorObject::from(arguments, info[0], "a")), b(DeviceTensorObject::from(arguments, info[2], "b")),
        transpose_a(arguments.boolean(1, "transposeA")), transpose_b(arguments.boolean(3, "transposeB")),
        scale(static_cast<float>(arguments.number(4, "scale", -1e30, 1e30))) {}
  cuda::ProductOperand left() const { return {*a, transpose_a}; }
  cuda::ProductOperand right() const { return {*b, transpose_b}; }
};

// deviceTrainingProduct(a, transposeA, b, transposeB, scale, float32, addend?, factor, stream?)
Napi::Value training_product(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceTrainingProduct", 8);
  const Product product(arguments, info);
  const DeviceType type = arguments.boolean(5, "float32") ? DeviceType::kFloat32 : product.a->type();
  const auto addend = arguments.has(6) ? DeviceTensorObject::from(arguments, info[6], "addend") : nullptr;
  if (addend && addend->type() != type) {
    arguments.fail(std::string("the addend is ") + cuda::name_of(addend->type()) + "; it must be " + cuda::name_of(type) + " like the result");
  }
  const auto factor = static_cast<float>(arguments.number(7, "factor", -1e30, 1e30));
  return wrap(info.Env(), cuda::training_product(product.left(), product.right(), product.scale, type, stream_argument(arguments, info, 8),
                                                 {addend.get(), factor}));
}

// deviceAddTrainingProduct(a, transposeA, b, transposeB, scale, sum, stream?)
Napi::Value add_training_product(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceAddTrainingProduct", 6);
  const Product product(arguments, info);
  const auto sum = DeviceTensorObject::from(arguments, info[5], "sum");
  cuda::add_training_product(product.left(), product.right(), product.scale, *sum, stream_argument(arguments, info, 6));
  return info.Env().Undefined();
}

// bias?, activation, scale, probability, seed
cuda::LinearFinish linear_finish(const Arguments& arguments, Operands& operands, size_t first, int64_t columns) {
  const std::string name = arguments.text(first + 1, "activation");
  if (name != "none" && name != "silu" && name != "relu" && name != "gelu") {
    arguments.fail("activation \"" + name + "\" is unknown in training; choose none, silu, relu or gelu");
  }
  return {operands.optional_weights(first, "bias", {columns}),
          name == "silu"   ? cuda::Activation::kSilu
          : name == "relu" ? cuda::Activation::kRelu
          : name == "gelu" ? cuda::Activation::kGelu
                           : cuda::Activation::kNone,
          static_cast<float>(arguments.number(first + 2, "scale", -1e30, 1e30)), arguments.dropout(first + 3)};
}

// deviceFinishLinear(sums, bias?, activation, scale, probability, seed, residual?, residualScale, stream?)
Napi::Value finish_linear(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceFinishLinear", 8);
  Operands operands(arguments, info);
  const DeviceTensor& sums = operands.training_floats(0, "sums");
  const cuda::LinearFinish layer = linear_finish(arguments, operands, 1, sums.columns());
  const DeviceTensor* residual = arguments.has(6) ? &operands.like(6, "residual", sums) : nullptr;
  const auto residual_scale = static_cast<float>(arguments.number(7, "residualScale", -1e30, 1e30));
  const auto stream = stream_argument(arguments, info, 8);
  DeviceTensor y(sums.type(), sums.shape(), stream);
  cuda::finish_linear(layer, sums, residual, residual_scale, y, stream);
  return wrap(info.Env(), std::move(y));
}

// deviceLinearGradient(gradient, bias?, activation, scale, probability, seed, sums?, wantSum, wantBias, stream?): [sum?, bias?]
Napi::Value linear_gradient(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceLinearGradient", 9);
  Operands operands(arguments, info);
  const DeviceTensor& gradient = operands.training_floats(0, "gradient");
  const cuda::LinearFinish layer = linear_finish(arguments, operands, 1, gradient.columns());
  const DeviceTensor* sums = arguments.has(6) ? &operands.like(6, "sums", gradient) : nullptr;
  if (layer.activation != cuda::Activation::kNone && !sums) arguments.fail("sums are needed for the slope of an activation");
  const auto stream = stream_argument(arguments, info, 9);
  DeviceTensor sum_gradient, bias_gradient;
  const bool wants_sum = arguments.boolean(7, "wantSum"), wants_bias = arguments.boolean(8, "wantBias");
  if (wants_sum) sum_gradient = DeviceTensor(gradient.type(), gradient.shape(), stream);
  if (wants_bias) bias_gradient = DeviceTensor(DeviceType::kFloat32, {gradient.columns()}, stream);
  cuda::linear_gradient(layer, gradient, sums, wants_sum ? &sum_gradient : nullptr, wants_bias ? &bias_gradient : nullptr, stream);
  Napi::Array result = Napi::Array::New(info.Env(), 2);
  if (wants_sum) result.Set(0u, wrap(info.Env(), std::move(sum_gradient)));
  if (wants_bias) result.Set(1u, wrap(info.Env(), std::move(bias_gradient)));
  return result;
}

/// float32 tensors, kept while the call lasts.
std::vector<std::shared_ptr<DeviceTensor>> tensors(const Arguments& arguments, Napi::Value list, const std::string& name) {
  if (!list.IsArray()) arguments.fail(name + " must be an array of tensors");
  const auto array = list.As<Napi::Array>();
  std::vector<std::shared_ptr<DeviceTensor>> result;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    result.push_back(DeviceTensorObject::from(arguments, array.Get(i), name + "[" + std::to_string(i) + "]"));
    if (result.back()->type() != DeviceType::kFloat32) arguments.fail(name + "[" + std::to_string(i) + "] must be float32");
  }
  return result;
}

std::vector<std::shared_ptr<DeviceTensor>> tensors_like(const Arguments& arguments, Napi::Value list, const std::string& name,
                                                        const std::vector<std::shared_ptr<DeviceTensor>>& like) {
  auto result = tensors(arguments, list, name);
  if (result.size() != like.size())
    arguments.fail(name + " has " + std::to_string(result.size()) + " tensors but there are " + std::to_string(like.size()) + " parameters");
  for (size_t i = 0; i < like.size(); ++i) {
    if (result[i]->shape() != like[i]->shape()) {
      arguments.fail(name + "[" + std::to_string(i) + "] has shape " + shape_text(result[i]->shape()) + " but its parameter has " +
                     shape_text(like[i]->shape()));
    }
  }
  return result;
}

std::vector<double> doubles(const Arguments& arguments, size_t index, const char* name, size_t count) {
  const auto bytes = arguments.bytes(index, name);
  if (bytes.size != count * sizeof(double)) arguments.fail(std::string(name) + " must be a Float64Array with one number per parameter");
  const auto* values = reinterpret_cast<const double*>(bytes.data);
  return {values, values + count};
}

// deviceAdamW(parameters, gradients, firstMoments, secondMoments, learningRates, weightDecays, beta1, beta2, epsilon, firstCorrection,
//             secondCorrection, gradientScale)
Napi::Value adamw(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceAdamW", 12);
  const auto values = tensors(arguments, info[0], "parameters");
  const auto gradients = tensors_like(arguments, info[1], "gradients", values), first = tensors_like(arguments, info[2], "firstMoments", values),
             second = tensors_like(arguments, info[3], "secondMoments", values);
  const auto rates = doubles(arguments, 4, "learningRates", values.size()), decays = doubles(arguments, 5, "weightDecays", values.size());
  const auto scalar = [&](size_t index, const char* name, double low, double high) {
    return static_cast<float>(arguments.number(index, name, low, high));
  };
  const cpu::AdamWStep step{scalar(6, "beta1", 0, 1),           scalar(7, "beta2", 0, 1),
                            scalar(8, "epsilon", 0, 1),         scalar(9, "firstCorrection", 1e-12, 1),
                            scalar(10, "secondCorrection", 1e-12, 1), scalar(11, "gradientScale", 0, 1e30)};
  std::vector<cuda::DeviceAdamWParameter> parameters;
  for (size_t i = 0; i < values.size(); ++i) {
    parameters.push_back({*values[i], *gradients[i], *first[i], *second[i], static_cast<float>(rates[i]), static_cast<float>(decays[i])});
  }
  cuda::adamw(parameters, step, cuda::default_stream());
  return info.Env().Undefined();
}

// deviceSumOfSquares(tensors) -> number; waits
Napi::Value sum_of_squares(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceSumOfSquares", 1);
  const auto held = tensors(arguments, info[0], "tensors");
  std::vector<const cuda::DeviceMatrix*> list;
  for (const auto& tensor : held) list.push_back(tensor.get());
  return Napi::Number::New(info.Env(), cuda::sum_of_squares(list, cuda::default_stream()));
}

// deviceUpdateAverage(averages, parameters, decay)
Napi::Value update_average(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceUpdateAverage", 3);
  const auto averages = tensors(arguments, info[0], "averages"), values = tensors_like(arguments, info[1], "parameters", averages);
  const auto decay = static_cast<float>(arguments.number(2, "decay", 0, 1));
  std::vector<cuda::DeviceAveraged> averaged;
  for (size_t i = 0; i < values.size(); ++i) averaged.push_back({*averages[i], *values[i]});
  cuda::update_averages(averaged, decay, cuda::default_stream());
  return info.Env().Undefined();
}

}  // namespace

void define_device_training(Napi::Object exports) {
  define<training_product>(exports, "deviceTrainingProduct");
  define<add_training_product>(exports, "deviceAddTrainingProduct");
  define<finish_linear>(exports, "deviceFinishLinear");
  define<linear_gradient>(exports, "deviceLinearGradient");
  define<adamw>(exports, "deviceAdamW");
  define<sum_of_squares>(exports, "deviceSumOfSquares");
  define<update_average>(exports, "deviceUpdateAverage");
}

}  // namespace usmlite::binding
