// Weights in the memory of the GPU.
#include <cstring>

#include "napi/arguments.hpp"
#include "napi/codec_arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/groups.hpp"
#include "napi/shared_objects.hpp"

namespace usmlite::binding {
namespace {

cuda::Arithmetic arithmetic_argument(const Arguments& arguments, size_t index) {
  const std::string name = arguments.text(index, "arithmetic");
  if (name == "bfloat16") return cuda::Arithmetic::kBFloat16;
  if (name == "float16") return cuda::Arithmetic::kFloat16;
  if (name == "int8") return cuda::Arithmetic::kInt8;
  if (name == "float8") return cuda::Arithmetic::kFloat8;
  arguments.fail("arithmetic \"" + name + "\" is unknown; choose bfloat16, float16, int8 or float8");
}

template <typename T> Napi::Value byte_array(Napi::Env env, const std::vector<T>& values) {
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env, values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(bytes.Data(), values.data(), values.size() * sizeof(T));
  return bytes;
}

// deviceWeightCreate(arithmetic, activations, glu, spec, rows, columns, packed, scale?, mask?, zeroPoint?, scaleSteps?)
Napi::Value create_device_weight(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceWeight.from", 7);
  cuda::gpu_properties();  // without a GPU nothing is arranged in vain
  const cuda::Arithmetic arithmetic = arithmetic_argument(arguments, 0);
  const cuda::RowCodes activations = integer_activations_argument(arguments, 1);
  const cuda::ChannelOrder order = arguments.boolean(2, "glu") ? cuda::ChannelOrder::kGlu : cuda::ChannelOrder::kPlain;
  return DeviceWeightObject::wrap(
      info.Env(), std::make_shared<cuda::DeviceWeight>(cuda::arrange_weight(packed_argument(arguments, 3), arithmetic, order),
                                                      arguments.text(3, "spec"), activations));
}

// deviceWeightRepeat(weight, times): `times` copies of a weight, one below the other, for measuring
Napi::Value repeat(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceWeight.repeat", 2);
  const auto weight = DeviceWeightObject::from(arguments, info[0], "weight");
  const int times = static_cast<int>(arguments.integer(1, "times", 1, 1 << 16));
  const std::vector<std::shared_ptr<cuda::DeviceWeight>> copies(static_cast<size_t>(times), weight);
  return DeviceWeightObject::wrap(info.Env(), std::make_shared<cuda::DeviceWeight>(cuda::DeviceWeight::stack(copies, false)));
}

// deviceWeightStack(weights): [whole], of weights that lie one below the other already, or [whole, ...parts], which those given are to be from now on
Napi::Value stack(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceWeight.stack", 1);
  if (!info[0].IsArray() || info[0].As<Napi::Array>().Length() == 0) arguments.fail("weights must be an array of at least one weight on the GPU");
  const auto array = info[0].As<Napi::Array>();
  std::vector<std::shared_ptr<cuda::DeviceWeight>> weights;
  for (uint32_t i = 0; i < array.Length(); ++i)
    weights.push_back(DeviceWeightObject::from(arguments, array.Get(i), "weights[" + std::to_string(i) + "]"));
  const auto whole = std::make_shared<cuda::DeviceWeight>(cuda::DeviceWeight::stack(weights, true));
  Napi::Array result = Napi::Array::New(info.Env());
  result.Set(uint32_t{0}, DeviceWeightObject::wrap(info.Env(), whole));
  if (whole->shares_memory_with(*weights[0])) return result;
  int begin = 0;
  for (const std::shared_ptr<cuda::DeviceWeight>& weight : weights) {
    const int blocks = weight->view().blocks;
    result.Set(result.Length(), DeviceWeightObject::wrap(info.Env(), std::make_shared<cuda::DeviceWeight>(whole->part(begin, blocks))));
    begin += blocks;
  }
  return result;
}

// deviceWeightShare(weight): the number under which any worker of this process finds it
Napi::Value share(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceWeight.share", 1);
  const auto weight = DeviceWeightObject::from(arguments, info[0], "weight");
  return Napi::Number::New(info.Env(), static_cast<double>(SharedObjects<cuda::DeviceWeight>::all().share(weight)));
}

// deviceWeightFromShared(number)
Napi::Value from_shared(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceWeight.fromShared", 1);
  const int64_t id = arguments.integer(0, "id", 0, (int64_t{1} << 53) - 1);
  auto weight = SharedObjects<cuda::DeviceWeight>::all().find(static_cast<uint64_t>(id));
  if (!weight) {
    arguments.fail("no weight on the GPU is shared as " + std::to_string(id) + "; whoever shares one must keep it until all workers have it");
  }
  return DeviceWeightObject::wrap(info.Env(), std::move(weight));
}

const char* name_of(cuda::Arithmetic arithmetic) {
  switch (arithmetic) {
    case cuda::Arithmetic::kBFloat16: return "bfloat16";
    case cuda::Arithmetic::kFloat16: return "float16";
    case cuda::Arithmetic::kInt8: return "int8";
    case cuda::Arithmetic::kFloat8: return "float8";
  }
  return "unknown";
}

// deviceWeightDescribe(weight): { spec, rows, columns, arithmetic, activations, glu, bytes, paddedChannels }
Napi::Value describe_device_weight(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceWeight.describe", 1);
  const auto weight = DeviceWeightObject::from(arguments, info[0], "weight");
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("spec", weight->spec());
  result.Set("rows", static_cast<double>(weight->view().channels));
  result.Set("columns", static_cast<double>(weight->view().inputs));
  result.Set("arithmetic", name_of(weight->view().arithmetic));
  result.Set("activations", name_of_integer_activations(weight->activations()));
  result.Set("glu", weight->order() == cuda::ChannelOrder::kGlu);
  result.Set("bytes", static_cast<double>(weight->bytes()));
  result.Set("paddedChannels", static_cast<double>(weight->padded_channels()));
  return result;
}

// deviceWeightRead(weight): the bytes on the GPU, { tiles, metadata, groupScales, channelScales, channelSums, wholeScales, zeroPoints, kept }
Napi::Value read(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceWeight.read", 1);
  const cuda::ArrangedWeight weight = DeviceWeightObject::from(arguments, info[0], "weight")->read_back();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("tiles", byte_array(info.Env(), weight.tiles));
  result.Set("metadata", byte_array(info.Env(), weight.metadata));
  result.Set("groupScales", byte_array(info.Env(), weight.group_scales));
  result.Set("channelScales", byte_array(info.Env(), weight.channel_scales));
  result.Set("channelSums", byte_array(info.Env(), weight.channel_sums));
  result.Set("wholeScales", byte_array(info.Env(), weight.whole_scales));
  result.Set("zeroPoints", byte_array(info.Env(), weight.zero_points));
  result.Set("kept", byte_array(info.Env(), weight.kept));
  return result;
}

// deviceWeightArrangeBias(weight, bias (rows)): on the GPU, in the order of the weight's channels and padded like them
Napi::Value arrange_bias(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceWeight.arrangeBias", 2);
  const auto weight = DeviceWeightObject::from(arguments, info[0], "weight");
  const int64_t rows = weight->view().channels;
  const Tensor& bias = arguments.tensor(1, "bias", DType::kFloat32, {rows});
  Tensor arranged(DType::kFloat32, {weight->padded_channels()});
  std::memset(arranged.f32(), 0, arranged.bytes());
  for (int64_t row = 0; row < rows; ++row) {
    arranged.f32()[cuda::arranged_channel(weight->order(), rows, row)] = bias.f32()[row];
  }
  return wrap(info.Env(), cuda::upload(arranged, cuda::DeviceType::kFloat32, cuda::default_stream()));
}

}  // namespace

void define_device_weight(Napi::Object exports) {
  define<create_device_weight>(exports, "deviceWeightCreate");
  define<repeat>(exports, "deviceWeightRepeat");
  define<stack>(exports, "deviceWeightStack");
  define<share>(exports, "deviceWeightShare");
  define<from_shared>(exports, "deviceWeightFromShared");
  define<describe_device_weight>(exports, "deviceWeightDescribe");
  define<read>(exports, "deviceWeightRead");
  define<arrange_bias>(exports, "deviceWeightArrangeBias");
}

}  // namespace usmlite::binding
