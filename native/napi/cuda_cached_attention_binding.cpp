// Attention of a decoder over a cache on the GPU.
#include "cuda/cached_attention.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/cuda_operands.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;

// deviceCachedAttention(query, key, value, queries, keys, heads, scale, causal, stream?)
Napi::Value cached_attention(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceCachedAttention", 8);
  Operands operands(arguments, info);
  const DeviceTensor& query = operands.floats(0, "query");
  const DeviceTensor& key = operands.floats(1, "key");
  if (key.type() != query.type() || key.columns() != query.columns()) {
    arguments.fail(std::string("key must be ") + cuda::name_of(query.type()) + " with " + std::to_string(query.columns()) + " columns, as query is");
  }
  const DeviceTensor& value = operands.like(2, "value", key);
  const auto keys = DeviceSequencesObject::from(arguments, info[4], "keys");
  const int64_t heads = arguments.integer(5, "heads", 1, 65535), head_dim = head_dimension(arguments, query, heads);
  if (head_dim % 2 != 0 || head_dim > cuda::kLargestCachedHead) {
    throw Error(error_code::kUnsupportedSpec, "heads have " + std::to_string(head_dim) + " values; in a decoder on the GPU they can have 2, 4, .. " +
                                                  std::to_string(cuda::kLargestCachedHead));
  }
  const bool causal = arguments.boolean(7, "causal");
  check_keys(arguments, *DeviceSequencesObject::from(arguments, info[3], "queries"), *keys, causal);
  if (keys->rows_end() > key.rows()) {
    arguments.fail("the keys of sequences reach to row " + std::to_string(keys->rows_end() - 1) + " but key has " + std::to_string(key.rows()));
  }
  const auto stream = stream_argument(arguments, info, 8);
  const cuda::CachedAttentionArguments attention{
      &query, &key, &value, static_cast<int>(heads), static_cast<float>(arguments.number(6, "scale", -1e6, 1e6)), causal};
  DeviceTensor out(query.type(), query.shape(), stream);
  cuda::cached_attention(attention, operands.sequences(3, query.rows(), stream), keys->use_on(stream), out, stream);
  return wrap(info.Env(), std::move(out));
}

// deviceExtendCache(keys, values, cachedKeys, cachedValues, queries, places, stream?)
Napi::Value extend_cache(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceExtendCache", 6);
  Operands operands(arguments, info);
  const DeviceTensor& keys = operands.floats(0, "keys");
  const DeviceTensor& values = operands.like(1, "values", keys);
  const DeviceTensor& cached_keys = operands.floats(2, "cachedKeys");
  if (cached_keys.type() != keys.type() || cached_keys.columns() != keys.columns()) {
    arguments.fail(std::string("cachedKeys must be ") + cuda::name_of(keys.type()) + " with " + std::to_string(keys.columns()) +
                   " columns, as keys is");
  }
  const DeviceTensor& cached_values = operands.like(3, "cachedValues", cached_keys);
  const auto places = DeviceSequencesObject::from(arguments, info[5], "places");
  check_keys(arguments, *DeviceSequencesObject::from(arguments, info[4], "queries"), *places, true);
  if (places->rows_end() > cached_keys.rows()) {
    arguments.fail("the places reach to row " + std::to_string(places->rows_end() - 1) + " but the cache has " + std::to_string(cached_keys.rows()));
  }
  const auto stream = stream_argument(arguments, info, 6);
  cuda::extend_cache({&keys, &values, &cached_keys, &cached_values}, operands.sequences(4, keys.rows(), stream), places->use_on(stream), stream);
  return info.Env().Undefined();
}

}  // namespace

void define_device_cached_attention(Napi::Object exports) {
  define<cached_attention>(exports, "deviceCachedAttention");
  define<extend_cache>(exports, "deviceExtendCache");
}

}  // namespace usmlite::binding
