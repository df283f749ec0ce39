// Linear layers on the GPU.
#include <algorithm>
#include <iterator>

#include "cuda/dense_product.hpp"
#include "cuda/linear.hpp"
#include "cuda/recorded_work.hpp"
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
  cuda::Stream stream;
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

/// Milliseconds of one launch in each of `repetitions` runs of `launches` launches, recorded once.
template <typename Launch>
Napi::Value times_of(Napi::Env env, const cuda::Stream& stream, int64_t launches, int64_t repetitions, const Launch& launch) {
  launch(0);  // what is done once per kernel is done before recording
  stream.synchronize();
  cuda::driver::RecordedWork work(stream.handle(), [&] {
    for (int64_t i = 0; i < launches; ++i) launch(i);
  });
  work.run(stream.handle());
  Napi::Float64Array times = Napi::Float64Array::New(env, static_cast<size_t>(repetitions));
  cuda::driver::Event begin, end;
  for (int64_t i = 0; i < repetitions; ++i) {
    begin.record(stream.handle());
    work.run(stream.handle());
    end.record(stream.handle());
    times[static_cast<size_t>(i)] = end.milliseconds_since(begin) / static_cast<double>(launches);
  }
  return times;
}

// deviceLinearTimes(x, rowScales?, weights, ..as above.., launches, repetitions, plan?): milliseconds of one launch in each of
// `repetitions` runs of `launches` launches, which take the weights in turn; by the plan of that code (product_plan.hpp)
Napi::Value device_linear_times(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceLinearTimes", 12);
  LinearArguments given(arguments, info);
  const std::string plan = arguments.has(12) ? arguments.text(12, "plan") : std::string();
  given.options.plan = plan;
  if (!info[2].IsArray() || info[2].As<Napi::Array>().Length() == 0) arguments.fail("weights must be an array of weights");
  const auto list = info[2].As<Napi::Array>();
  std::vector<std::shared_ptr<cuda::DeviceWeight>> weights;
  for (uint32_t i = 0; i < list.Length(); ++i) weights.push_back(DeviceWeightObject::from(arguments, list.Get(i), "weight"));
  const int64_t launches = arguments.integer(10, "launches", 1, 100000);
  const int64_t repetitions = arguments.integer(11, "repetitions", 1, 100000);

  cuda::Linear linear(*given.x, given.row_scales.get(), *weights[0], given.options, given.stream);
  return times_of(info.Env(), given.stream, launches, repetitions,
                  [&](int64_t i) { linear.run(*weights[static_cast<size_t>(i) % weights.size()]); });
}

// devicePlans(weight, tokens): codes of the plans that may be the fastest, and of the one that is taken
Napi::Value device_plans(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "devicePlans", 2);
  const auto weight = DeviceWeightObject::from(arguments, info[0], "weight");
  const int tokens = static_cast<int>(arguments.integer(1, "tokens", 1, 1 << 24));
  Napi::Array codes = Napi::Array::New(info.Env());
  for (const cuda::ProductPlan& plan : cuda::product_plans(weight->view(), tokens)) codes.Set(codes.Length(), cuda::code_of(plan));
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("plans", codes);
  result.Set("chosen", cuda::code_of(cuda::choose_product_plan(weight->view(), tokens, cuda::MatmulKernel::kByTokens)));
  return result;
}

// deviceMatmul(x, w, stream?)
Napi::Value device_matmul(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceMatmul", 2);
  const auto x = DeviceTensorObject::from(arguments, info[0], "x");
  const auto w = DeviceTensorObject::from(arguments, info[1], "w");
  return wrap(info.Env(), cuda::dense_product(*x, *w, stream_argument(arguments, info, 2)));
}

// deviceMatmulTimes(x, ws, way, launches, repetitions): as deviceLinearTimes, of products with two dense matrices
Napi::Value device_matmul_times(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceMatmulTimes", 5);
  const auto x = DeviceTensorObject::from(arguments, info[0], "x");
  if (!info[1].IsArray() || info[1].As<Napi::Array>().Length() == 0) arguments.fail("ws must be an array of tensors");
  const auto list = info[1].As<Napi::Array>();
  std::vector<std::shared_ptr<cuda::DeviceTensor>> ws;
  for (uint32_t i = 0; i < list.Length(); ++i) ws.push_back(DeviceTensorObject::from(arguments, list.Get(i), "w"));
  const std::string way = arguments.text(2, "way");
  const int64_t launches = arguments.integer(3, "launches", 1, 100000);
  const int64_t repetitions = arguments.integer(4, "repetitions", 1, 100000);
  const cuda::Stream& stream = cuda::default_stream();
  return times_of(info.Env(), stream, launches, repetitions,
                  [&](int64_t i) { cuda::dense_product(*x, *ws[static_cast<size_t>(i) % ws.size()], stream, way); });
}

// deviceMatmulWays(): names of the ways that deviceMatmulTimes takes
Napi::Value device_matmul_ways(const Napi::CallbackInfo& info) {
  Napi::Array names = Napi::Array::New(info.Env());
  for (const std::string_view way : cuda::dense_ways()) names.Set(names.Length(), std::string(way));
  return names;
}

// quantizeRows(x, type, stream?): [codes, scales]; type: float8, int8, int4, whose codes lie in bytes, or int8-asymmetric, with offsets below the scales
Napi::Value quantize_rows(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "quantizeRows", 2);
  const auto x = DeviceTensorObject::from(arguments, info[0], "x");
  const std::string name = arguments.text(1, "type");
  const auto* const known =
      std::find_if(std::begin(kIntegerActivations), std::end(kIntegerActivations), [&](const auto& one) { return name == one.first; });
  if (name != "float8" && known == std::end(kIntegerActivations)) {
    arguments.fail("type \"" + name + "\" is unknown; choose int8, int8-asymmetric, int4 or float8");
  }
  if (x->shape().size() != 2 || (x->type() != cuda::DeviceType::kBFloat16 && x->type() != cuda::DeviceType::kFloat16)) {
    arguments.fail("x must be a bfloat16 or float16 matrix");
  }
  cuda::QuantizedRows rows = cuda::quantize_rows(*x, name == "float8" ? cuda::RowCodes::kFloat8 : known->second, stream_argument(arguments, info, 2));
  Napi::Array result = Napi::Array::New(info.Env(), 2);
  result.Set(0u, wrap(info.Env(), std::move(rows.codes)));
  result.Set(1u, wrap(info.Env(), std::move(rows.scales)));
  return result;
}

}  // namespace

void define_device_linear(Napi::Object exports) {
  define<device_linear>(exports, "deviceLinear");
  define<device_linear_times>(exports, "deviceLinearTimes");
  define<device_plans>(exports, "devicePlans");
  define<device_matmul>(exports, "deviceMatmul");
  define<device_matmul_times>(exports, "deviceMatmulTimes");
  define<device_matmul_ways>(exports, "deviceMatmulWays");
  define<quantize_rows>(exports, "quantizeRows");
}

}  // namespace usmlite::binding
