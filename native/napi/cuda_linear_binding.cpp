// Linear layers on the GPU.
#include "cuda/dense_product.hpp"
#include "cuda/linear.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/groups.hpp"
#include "napi/matmul_arguments.hpp"

namespace usmlite::binding {
namespace {

cuda::Activation device_activation(const Arguments& arguments, size_t index) {
  const std::string name = arguments.text(index, "activation");
  if (name == "none") return cuda::Activation::kNone;
  if (name == "silu") return cuda::Activation::kSilu;
  if (name == "relu") return cuda::Activation::kRelu;
  if (name == "gelu") return cuda::Activation::kGelu;
  if (name == "glu") return cuda::Activation::kGlu;
  arguments.fail("activation \"" + name + "\" is unknown; choose none, silu, relu, gelu or glu");
}

std::shared_ptr<cuda::DeviceTensor> optional_tensor(const Arguments& arguments, const Napi::CallbackInfo& info, size_t index,
                                                    const char* name) {
  return arguments.has(index) ? DeviceTensorObject::from(arguments, info[index], name) : nullptr;
}

/// What the functions here have in common: x, rowScales?, (a weight or weights), bias?, activation, scale, residual?,
/// residualScale, batchInvariant, stream?
struct LinearArguments {
  LinearArguments(const Arguments& arguments, const Napi::CallbackInfo& info)
      : x(DeviceTensorObject::from(arguments, info[0], "x")), row_scales(optional_tensor(arguments, info, 1, "rowScales")),
        bias(optional_tensor(arguments, info, 3, "bias")), residual(optional_tensor(arguments, info, 6, "residual")),
        stream(stream_argument(arguments, info, 9)) {
    options.bias = bias.get();
    options.activation = device_activation(arguments, 4);
    options.scale = factor_argument(arguments, 5, "scale");
    options.residual = residual.get();
    options.residual_scale = factor_argument(arguments, 7, "residualScale");
    // One kernel for any number of tokens: that for many, which streams the weight of few nearly as well.
    if (arguments.boolean(8, "batchInvariant")) options.kernel = cuda::MatmulKernel::kManyTokens;
  }

  std::shared_ptr<cuda::DeviceTensor> x, row_scales, bias, residual;
  std::shared_ptr<cuda::Stream> stream;
  cuda::LinearOptions options;
};

// deviceLinear(x, rowScales?, weight, bias?, activation, scale, residual?, residualScale, batchInvariant, stream?)
Napi::Value device_linear(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceLinear", 9);
  const LinearArguments given(arguments, info);
  const auto weight = DeviceWeightObject::from(arguments, info[2], "weight");
  cuda::Linear linear(*given.x, given.row_scales.get(), *weight, given.options, given.stream);
  linear.run(*weight);
  return wrap(info.Env(), linear.output());
}

// deviceLinearTimes(x, rowScales?, weights, ..as above.., launches, repetitions): milliseconds of one launch in each of
// `repetitions` runs of `launches` launches, which take the weights in turn
Napi::Value device_linear_times(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceLinearTimes", 12);
  const LinearArguments given(arguments, info);
  if (!info[2].IsArray() || info[2].As<Napi::Array>().Length() == 0) arguments.fail("weights must be an array of weights");
  const auto list = info[2].As<Napi::Array>();
  std::vector<std::shared_ptr<cuda::DeviceWeight>> weights;
  for (uint32_t i = 0; i < list.Length(); ++i) weights.push_back(DeviceWeightObject::from(arguments, list.Get(i), "weight"));
  const int64_t launches = arguments.integer(10, "launches", 1, 100000);
  const int64_t repetitions = arguments.integer(11, "repetitions", 1, 100000);

  cuda::Linear linear(*given.x, given.row_scales.get(), *weights[0], given.options, given.stream);
  linear.run(*weights[0]);  // what is done once per kernel is done before recording
  given.stream->synchronize();
  cuda::driver::RecordedWork work(given.stream->handle(), [&] {
    for (int64_t i = 0; i < launches; ++i) linear.run(*weights[static_cast<size_t>(i) % weights.size()]);
  });
  work.run(given.stream->handle());
  Napi::Float64Array times = Napi::Float64Array::New(info.Env(), static_cast<size_t>(repetitions));
  cuda::driver::Event begin, end;
  for (int64_t i = 0; i < repetitions; ++i) {
    begin.record(given.stream->handle());
    work.run(given.stream->handle());
    end.record(given.stream->handle());
    times[static_cast<size_t>(i)] = end.milliseconds_since(begin) / static_cast<double>(launches);
  }
  return times;
}

// deviceMatmul(x, w, stream?)
Napi::Value device_matmul(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceMatmul", 2);
  const auto x = DeviceTensorObject::from(arguments, info[0], "x");
  const auto w = DeviceTensorObject::from(arguments, info[1], "w");
  return wrap(info.Env(), cuda::dense_product(*x, *w, stream_argument(arguments, info, 2)));
}

// quantizeRows(x, type, stream?): [codes, scales]
Napi::Value quantize_rows(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "quantizeRows", 2);
  const auto x = DeviceTensorObject::from(arguments, info[0], "x");
  const std::string name = arguments.text(1, "type");
  if (name != "int8" && name != "float8") arguments.fail("type \"" + name + "\" is unknown; choose int8 or float8");
  if (x->shape().size() != 2 || (x->type() != cuda::DeviceType::kBFloat16 && x->type() != cuda::DeviceType::kFloat16)) {
    arguments.fail("x must be a bfloat16 or float16 matrix");
  }
  cuda::QuantizedRows rows = cuda::quantize_rows(*x, name == "int8" ? cuda::DeviceType::kInt8 : cuda::DeviceType::kFloat8,
                                                 stream_argument(arguments, info, 2));
  Napi::Array result = Napi::Array::New(info.Env(), 2);
  result.Set(0u, wrap(info.Env(), std::move(rows.codes)));
  result.Set(1u, wrap(info.Env(), std::move(rows.scales)));
  return result;
}

}  // namespace

void define_device_linear(Napi::Object exports) {
  define<device_linear>(exports, "deviceLinear");
  define<device_linear_times>(exports, "deviceLinearTimes");
  define<device_matmul>(exports, "deviceMatmul");
  define<quantize_rows>(exports, "quantizeRows");
}

}  // namespace usmlite::binding
