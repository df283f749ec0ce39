// Training on the GPU: attention and its gradients.
#include "cuda/attention.hpp"
#include "cuda/attention_backward.hpp"
#include "cuda/cast.hpp"
#include "cuda/relative_attention_backward.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_attention_operands.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

struct Heads {
  int64_t count, dimension;
  float scale;
};

/// The arguments `heads` and `scale` from `index` on.
Heads heads_argument(const Arguments& arguments, const DeviceTensor& query, size_t index) {
  const int64_t heads = arguments.integer(index, "heads", 1, 65535), head_dim = head_dimension(arguments, query, heads);
  if (head_dim == 0 || head_dim % 8 != 0 || head_dim > cuda::kLargestTrainedHeadDimension) {
    throw Error(error_code::kUnsupportedSpec, "heads have " + std::to_string(head_dim) +
                                                  " values; to be trained on the GPU they can have 8, 16, .. " +
                                                  std::to_string(cuda::kLargestTrainedHeadDimension));
  }
  return {heads, head_dim, static_cast<float>(arguments.number(index + 1, "scale", -1e6, 1e6))};
}

/// Keys and values of sequences, which may lie elsewhere than their queries.
struct Keys {
  std::shared_ptr<cuda::DeviceSequences> held;
  cuda::PackedSequences places{};
  int64_t frames;

  /// The argument `index` says where; without it they lie where the queries do, which the argument `queries` says.
  Keys(const Arguments& arguments, const Napi::CallbackInfo& info, size_t index, size_t queries, bool causal, const cuda::Stream& stream)
      : held(DeviceSequencesObject::from(arguments, info[arguments.has(index) ? index : queries], "keys")), frames(held->frames()) {
    check_keys(arguments, *DeviceSequencesObject::from(arguments, info[queries], "sequences"), *held, causal);
    if (held->has_rows()) arguments.fail("the keys are rows here and there; only attention over a cache takes such");
    places = held->use_on(stream);
  }
};

// deviceTrainingAttention(query, key, value, sequences, keys?, causal, heads, scale, probability, seed, stream?) -> [out, logSum]
Napi::Value training_attention(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceTrainingAttention", 10);
  Operands operands(arguments, info);
  const DeviceTensor& query = operands.training_floats(0, "query");
  const Heads heads = heads_argument(arguments, query, 6);
  const bool causal = arguments.boolean(5, "causal");
  const auto stream = stream_argument(arguments, info, 10);
  const Keys keys(arguments, info, 4, 3, causal, stream);
  const DeviceTensor& key = key_argument(operands, 1, query, heads.dimension, keys.frames);
  const DeviceTensor& value = operands.like(2, "value", query, key.shape());
  const cuda::PackedSequences sequences = operands.sequences(3, query.rows(), stream);
  const DeviceTensor out(query.type(), query.shape(), stream), log_sum(DeviceType::kFloat32, {heads.count, query.rows()}, stream);
  cuda::attention({.query = &query,
                   .key = &key,
                   .value = &value,
                   .heads = static_cast<int>(heads.count),
                   .key_heads = static_cast<int>(key.columns() / heads.dimension),
                   .scale = heads.scale,
                   .log_sum = &log_sum,
                   .dropout = arguments.dropout(8),
                   .keys = &keys.places,
                   .causal = causal},
                  sequences, out, stream);
  return wrap_all(info.Env(), {&out, &log_sum});
}

// deviceTrainingRelativeAttention(query, key, value, sequences, heads, scale, positions, contentBias, positionBias, origin, left, right, stream?)
//   -> [out, logSum]
Napi::Value training_relative_attention(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceTrainingRelativeAttention", 12);
  Operands operands(arguments, info);
  const DeviceTensor& query = operands.training_floats(0, "query");
  const Heads heads = heads_argument(arguments, query, 4);
  const auto stream = stream_argument(arguments, info, 12);
  const DeviceTensor& key = key_argument(operands, 1, query, heads.dimension, query.rows());
  const DeviceTensor& value = operands.like(2, "value", query, key.shape());
  const cuda::PackedSequences sequences = operands.sequences(3, query.rows(), stream);
  const RelativePositions relative = relative_argument(arguments, operands, 6, query, sequences.longest);
  const DeviceTensor out(query.type(), query.shape(), stream), log_sum(DeviceType::kFloat32, {heads.count, query.rows()}, stream);
  cuda::attention({.query = &query,
                   .key = &key,
                   .value = &value,
                   .heads = static_cast<int>(heads.count),
                   .key_heads = static_cast<int>(key.columns() / heads.dimension),
                   .scale = heads.scale,
                   .positions = relative.positions,
                   .content_bias = relative.content_bias,
                   .position_bias = relative.position_bias,
                   .origin = relative.origin,
                   .window = relative.window,
                   .log_sum = &log_sum},
                  sequences, out, stream);
  return wrap_all(info.Env(), {&out, &log_sum});
}

// deviceAttentionBackward(query, key, value, out, logSum, gradient, sequences, keys?, causal, heads, scale, probability, seed, stream?)
//   -> [query, key, value]
Napi::Value attention_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceAttentionBackward", 13);
  Operands operands(arguments, info);
  const DeviceTensor& query = operands.training_floats(0, "query");
  const Heads heads = heads_argument(arguments, query, 9);
  const bool causal = arguments.boolean(8, "causal");
  const auto stream = stream_argument(arguments, info, 13);
  const Keys keys(arguments, info, 7, 6, causal, stream);
  const DeviceTensor& key = key_argument(operands, 1, query, heads.dimension, keys.frames);
  const DeviceTensor of_query(query.type(), query.shape(), stream), of_key(query.type(), key.shape(), stream),
      of_value(query.type(), key.shape(), stream);
  cuda::attention_backward({.query = &query,
                            .out = &operands.like(3, "out", query),
                            .gradient = &operands.like(5, "gradient", query),
                            .key = &key,
                            .value = &operands.like(2, "value", query, key.shape()),
                            .log_sum = &operands.weights(4, "logSum", {heads.count, query.rows()}),
                            .gradient_query = &of_query,
                            .gradient_key = &of_key,
                            .gradient_value = &of_value,
                            .heads = static_cast<int>(heads.count),
                            .key_heads = static_cast<int>(key.columns() / heads.dimension),
                            .scale = heads.scale,
                            .dropout = arguments.dropout(11),
                            .keys = &keys.places,
                            .causal = causal},
                           operands.sequences(6, query.rows(), stream), stream);
  return wrap_all(info.Env(), {&of_query, &of_key, &of_value});
}

// deviceRelativeAttentionBackward(query, key, value, out, logSum, gradient, sequences, heads, scale, positions, contentBias, positionBias,
//                                 origin, left, right, stream?) -> [query, key, value, positions, contentBias, positionBias]
Napi::Value relative_attention_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceRelativeAttentionBackward", 15);
  Operands operands(arguments, info);
  const DeviceTensor& query = operands.training_floats(0, "query");
  const Heads heads = heads_argument(arguments, query, 7);
  const auto stream = stream_argument(arguments, info, 15);
  const cuda::PackedSequences sequences = operands.sequences(6, query.rows(), stream);
  const RelativePositions relative = relative_argument(arguments, operands, 9, query, sequences.longest);
  const DeviceTensor& key = key_argument(operands, 1, query, heads.dimension, query.rows());
  const DeviceTensor of_query(query.type(), query.shape(), stream), of_key(query.type(), key.shape(), stream);
  const DeviceTensor of_value(query.type(), key.shape(), stream), of_positions(query.type(), relative.positions->shape(), stream);
  const DeviceTensor sums(DeviceType::kFloat32, relative.positions->shape(), stream);
  const DeviceTensor of_content_bias(DeviceType::kFloat32, {query.columns()}, stream),
      of_position_bias(DeviceType::kFloat32, {query.columns()}, stream);
  cuda::relative_attention_backward({.query = &query,
                                     .out = &operands.like(3, "out", query),
                                     .gradient = &operands.like(5, "gradient", query),
                                     .key = &key,
                                     .value = &operands.like(2, "value", query, key.shape()),
                                     .positions = relative.positions,
                                     .content_bias = relative.content_bias,
                                     .position_bias = relative.position_bias,
                                     .log_sum = &operands.weights(4, "logSum", {heads.count, query.rows()}),
                                     .gradient_query = &of_query,
                                     .gradient_key = &of_key,
                                     .gradient_value = &of_value,
                                     .gradient_positions = &sums,
                                     .gradient_content_bias = &of_content_bias,
                                     .gradient_position_bias = &of_position_bias,
                                     .heads = static_cast<int>(heads.count),
                                     .key_heads = static_cast<int>(key.columns() / heads.dimension),
                                     .scale = heads.scale,
                                     .origin = relative.origin,
                                     .window = relative.window},
                                    sequences, stream);
  cuda::cast(sums, of_positions, stream);
  return wrap_all(info.Env(), {&of_query, &of_key, &of_value, &of_positions, &of_content_bias, &of_position_bias});
}

}  // namespace

void define_device_attention_gradients(Napi::Object exports) {
  define<training_attention>(exports, "deviceTrainingAttention");
  define<training_relative_attention>(exports, "deviceTrainingRelativeAttention");
  define<attention_backward>(exports, "deviceAttentionBackward");
  define<relative_attention_backward>(exports, "deviceRelativeAttentionBackward");
}

}  // namespace usmlite::binding
