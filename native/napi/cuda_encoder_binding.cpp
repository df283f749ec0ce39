// Operations of an encoder on the GPU other than products with weights.
#include "cuda/attention.hpp"
#include "cuda/depthwise_convolution.hpp"
#include "cuda/gated_linear_unit.hpp"
#include "cuda/gather_windows.hpp"
#include "cuda/layer_norm.hpp"
#include "cuda/log_softmax.hpp"
#include "cuda/device_sequences.hpp"
#include "cuda/rotary.hpp"
#include "cuda/swap_column_axes.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_attention_operands.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

// deviceLayerNorm(x, weight, bias?, epsilon, stream?)
Napi::Value layer_norm(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceLayerNorm", 4);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.floats(0, "x");
  const DeviceTensor& weight = operands.weights(1, "weight", {x.columns()});
  const DeviceTensor* bias = operands.optional_weights(2, "bias", {x.columns()});
  const auto epsilon = static_cast<float>(arguments.number(3, "epsilon", 0.0, 1.0));
  const auto stream = stream_argument(arguments, info, 4);
  DeviceTensor y(x.type(), x.shape(), stream);
  cuda::layer_norm(x, epsilon, {&weight, bias, &y}, nullptr, stream);
  return wrap(info.Env(), std::move(y));
}

// deviceLayerNormTwice(x, weight, bias?, nextWeight, nextBias?, epsilon, stream?): [y, y normalized]
Napi::Value layer_norm_twice(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceLayerNormTwice", 6);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.floats(0, "x");
  const DeviceTensor& weight = operands.weights(1, "weight", {x.columns()});
  const DeviceTensor* bias = operands.optional_weights(2, "bias", {x.columns()});
  const DeviceTensor& next_weight = operands.weights(3, "next.weight", {x.columns()});
  const DeviceTensor* next_bias = operands.optional_weights(4, "next.bias", {x.columns()});
  const auto epsilon = static_cast<float>(arguments.number(5, "epsilon", 0.0, 1.0));
  const auto stream = stream_argument(arguments, info, 6);
  DeviceTensor y(x.type(), x.shape(), stream), z(x.type(), x.shape(), stream);
  const cuda::LayerNorm next{&next_weight, next_bias, &z};
  cuda::layer_norm(x, epsilon, {&weight, bias, &y}, &next, stream);
  Napi::Array both = Napi::Array::New(info.Env(), 2);
  both.Set(uint32_t{0}, wrap(info.Env(), std::move(y)));
  both.Set(uint32_t{1}, wrap(info.Env(), std::move(z)));
  return both;
}

// deviceLogSoftmax(x, stream?): float32
Napi::Value log_softmax(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceLogSoftmax", 1);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.floats(0, "x");
  const auto stream = stream_argument(arguments, info, 1);
  DeviceTensor y(DeviceType::kFloat32, x.shape(), stream);
  cuda::log_softmax(x, y, stream);
  return wrap(info.Env(), std::move(y));
}

// deviceGlu(x, stream?)
Napi::Value glu(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceGlu", 1);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.floats(0, "x");
  if (x.columns() % 2 != 0) arguments.fail("x has " + std::to_string(x.columns()) + " columns; values and gates must be as many");
  const auto stream = stream_argument(arguments, info, 1);
  DeviceTensor y(x.type(), {x.rows(), x.columns() / 2}, stream);
  cuda::gated_linear_unit(x, y, stream);
  return wrap(info.Env(), std::move(y));
}

// deviceDepthwiseConvolution(x, weight (channels, kernel), bias?, leftPadding, silu, gated, sequences, stream?)
Napi::Value depthwise_convolution(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceDepthwiseConvolution", 7);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.floats(0, "x");
  const auto kernel = DeviceTensorObject::from(arguments, info[1], "weight")->columns();
  const bool gated = arguments.boolean(5, "gated");
  if (gated && x.columns() % 4 != 0) {
    arguments.fail("x has " + std::to_string(x.columns()) + " columns; values and gates must be as many, an even number each");
  }
  const int64_t channels = gated ? x.columns() / 2 : x.columns();
  const DeviceTensor& weight = operands.weights(1, "weight", {channels, kernel});
  const DeviceTensor* bias = operands.optional_weights(2, "bias", {channels});
  if (kernel < 1 || kernel > cuda::kLongestDepthwiseKernel) {
    throw Error(error_code::kUnsupportedSpec, "the kernel spans " + std::to_string(kernel) + " frames; on the GPU it can be 1 to " +
                                                  std::to_string(cuda::kLongestDepthwiseKernel));
  }
  const auto left = static_cast<int>(arguments.integer(3, "leftPadding", 0, kernel - 1));
  const bool silu = arguments.boolean(4, "silu");
  const auto stream = stream_argument(arguments, info, 7);
  const cuda::PackedSequences sequences = operands.sequences(6, x.rows(), stream);
  DeviceTensor y(x.type(), {x.rows(), channels}, stream);
  cuda::depthwise_convolution(x, weight, bias, left, silu, sequences, y, stream);
  return wrap(info.Env(), std::move(y));
}

// deviceGatherWindows(x, sequences, kernel, stride, outputs, stream?)
Napi::Value gather_windows(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceGatherWindows", 5);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.floats(0, "x");
  if (x.columns() % 8 != 0) {
    throw Error(error_code::kUnsupportedSpec, "frames have " + std::to_string(x.columns()) +
                                                  " channels; windows on the GPU are made of a multiple of 8");
  }
  const int64_t kernel = arguments.integer(2, "kernel", 1, 1 << 16), stride = arguments.integer(3, "stride", 1, 1 << 16);
  const auto outputs = DeviceSequencesObject::from(arguments, info[4], "outputs");
  const auto inputs = DeviceSequencesObject::from(arguments, info[1], "sequences");
  const auto stream = stream_argument(arguments, info, 5);
  const cuda::PackedSequences sequences = operands.sequences(1, x.rows(), stream);
  check_windows(arguments, *inputs, *outputs, kernel, stride);
  DeviceTensor y(x.type(), {outputs->frames(), kernel * x.columns()}, stream);
  cuda::gather_windows(x, sequences, static_cast<int>(stride), 0, outputs->use_on(stream), y, stream);
  return wrap(info.Env(), std::move(y));
}

// deviceSwapColumnAxes(x, outer, stream?): (rows, outer * inner) as (rows, inner * outer)
Napi::Value swap_column_axes(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceSwapColumnAxes", 2);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.floats(0, "x");
  const int64_t outer = arguments.integer(1, "outer", 1, 1 << 20);
  if (x.columns() % outer != 0) arguments.fail("x has " + std::to_string(x.columns()) + " columns, no multiple of " + std::to_string(outer));
  const auto stream = stream_argument(arguments, info, 2);
  DeviceTensor y(x.type(), x.shape(), stream);
  cuda::swap_column_axes(x, static_cast<int>(outer), y, stream);
  return wrap(info.Env(), std::move(y));
}

// deviceRotateHeads(query, key?, heads, theta, inverse, sequences, stream?): in place
Napi::Value rotate_heads(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceRotateHeads", 6);
  Operands operands(arguments, info);
  const DeviceTensor& query = operands.floats(0, "query");
  const DeviceTensor* key = arguments.has(1) ? &operands.like(1, "key", query) : nullptr;
  const int64_t heads = arguments.integer(2, "heads", 1, 1 << 20);
  const int64_t head_dim = head_dimension(arguments, query, heads);
  if (head_dim % 2 != 0) arguments.fail("rotary embedding needs an even head size but it is " + std::to_string(head_dim));
  const auto theta = static_cast<float>(arguments.number(3, "theta", 1e-3, 1e12));
  const auto stream = stream_argument(arguments, info, 6);
  cuda::rotate_heads(query, key, static_cast<int>(heads), theta, arguments.boolean(4, "inverse"), operands.sequences(5, query.rows(), stream),
                     stream);
  return info.Env().Undefined();
}

// deviceAttention(query, key, value, heads, scale, sequences, batchInvariant, stream?, positions?, contentBias, positionBias, origin, left, right)
Napi::Value attention(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceAttention", 7);
  Operands operands(arguments, info);
  cuda::AttentionArguments attention{};
  const DeviceTensor& query = operands.floats(0, "query");
  attention.query = &query;
  const int64_t heads = arguments.integer(3, "heads", 1, 65535);
  const int64_t head_dim = head_dimension(arguments, query, heads);
  if (head_dim == 0 || head_dim % 8 != 0 || head_dim > cuda::kLargestHeadDimension) {
    throw Error(error_code::kUnsupportedSpec, "heads have " + std::to_string(head_dim) + " values; on the GPU they can have 8, 16, .. " +
                                                  std::to_string(cuda::kLargestHeadDimension));
  }
  const DeviceTensor& key = key_argument(operands, 1, query, head_dim, query.rows());
  attention.key = &key;
  attention.value = &operands.like(2, "value", query, key.shape());
  attention.heads = static_cast<int>(heads);
  attention.key_heads = static_cast<int>(attention.key->columns() / head_dim);
  attention.scale = static_cast<float>(arguments.number(4, "scale", -1e6, 1e6));
  attention.batch_invariant = arguments.boolean(6, "batchInvariant");
  const auto stream = stream_argument(arguments, info, 7);
  const cuda::PackedSequences sequences = operands.sequences(5, query.rows(), stream);
  if (arguments.has(8)) {
    const RelativePositions relative = relative_argument(arguments, operands, 8, query, sequences.longest);
    attention.positions = relative.positions, attention.content_bias = relative.content_bias, attention.position_bias = relative.position_bias;
    attention.origin = relative.origin, attention.window = relative.window;
  }
  DeviceTensor out(query.type(), query.shape(), stream);
  cuda::attention(attention, sequences, out, stream);
  return wrap(info.Env(), std::move(out));
}

}  // namespace

void define_device_encoder(Napi::Object exports) {
  define<swap_column_axes>(exports, "deviceSwapColumnAxes");
  define<layer_norm>(exports, "deviceLayerNorm");
  define<layer_norm_twice>(exports, "deviceLayerNormTwice");
  define<log_softmax>(exports, "deviceLogSoftmax");
  define<glu>(exports, "deviceGlu");
  define<depthwise_convolution>(exports, "deviceDepthwiseConvolution");
  define<gather_windows>(exports, "deviceGatherWindows");
  define<rotate_heads>(exports, "deviceRotateHeads");
  define<attention>(exports, "deviceAttention");
}

}  // namespace usmlite::binding
