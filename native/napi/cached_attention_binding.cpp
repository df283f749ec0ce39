#include "cpu/cached_attention.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/matmul_arguments.hpp"
#include "napi/results.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

// Both functions begin (query, key, value, queryOffsets, keyOffsets, keyRows?, heads, scale, causal, ..).
struct CachedAttentionOperands {
  const Tensor& query;
  const Tensor& key;
  cpu::CachedAttentionProblem problem;
};

CachedAttentionOperands cached_attention_operands(const Arguments& arguments) {
  const Tensor& query = arguments.tensor(0, "query", DType::kFloat32, {kAny, kAny});
  const int64_t width = query.dim(1), heads = arguments.integer(6, "heads", 1, 1 << 20);
  if (width == 0 || width % heads != 0) {
    arguments.fail("query must hold " + std::to_string(heads) + " heads of equal size but has shape " + shape_text(query.shape()));
  }
  const Tensor& key = arguments.tensor(1, "key", DType::kFloat32, {kAny, width});
  const Tensor& value = arguments.tensor(2, "value", DType::kFloat32, {key.dim(0), width});
  const Tensor& query_offsets = arguments.offsets(3, "queryOffsets", query.dim(0));
  const Tensor* rows = arguments.optional_tensor(5, "keyRows", DType::kInt32, {kAny});
  const Tensor& key_offsets = arguments.offsets(4, "keyOffsets", rows ? rows->count() : key.dim(0));
  if (query_offsets.count() != key_offsets.count()) arguments.fail("queryOffsets and keyOffsets differ in length");
  for (int64_t i = 0; rows && i < rows->count(); ++i) {
    if (rows->i32()[i] < 0 || rows->i32()[i] >= key.dim(0)) {
      arguments.fail("keyRows names row " + std::to_string(rows->i32()[i]) + " but key has " + std::to_string(key.dim(0)));
    }
  }
  const bool causal = arguments.boolean(8, "causal");
  for (int64_t i = 1; i < query_offsets.count(); ++i) {
    const int64_t queries = query_offsets.i32()[i] - query_offsets.i32()[i - 1], keys = key_offsets.i32()[i] - key_offsets.i32()[i - 1];
    if (queries > 0 && keys < (causal ? queries : 1)) {
      arguments.fail("sequence " + std::to_string(i - 1) + " has " + std::to_string(queries) + " queries but only " + std::to_string(keys) + " keys");
    }
  }
  return {query, key,
          {query_offsets.i32(), key_offsets.i32(), rows ? rows->i32() : nullptr, query_offsets.count() - 1, heads, width / heads,
           factor_argument(arguments, 7, "scale"), causal, query.f32(), key.f32(), value.f32()}};
}

// cachedAttention(..) -> out
Napi::Value cached_attention(const Napi::CallbackInfo& info) {
  const CachedAttentionOperands operands = cached_attention_operands(Arguments(info, "cachedAttention", 9));
  Tensor out(DType::kFloat32, operands.query.shape());
  cpu::cached_attention(operands.problem, out.f32());
  return TensorHandle::wrap(info.Env(), std::move(out));
}

// cachedAttentionBackward(.., gradient) -> [gradientQuery, gradientKey, gradientValue]
Napi::Value cached_attention_backward(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "cachedAttentionBackward", 10);
  const CachedAttentionOperands operands = cached_attention_operands(arguments);
  if (arguments.has(5)) arguments.fail("keyRows has no backward pass");
  const Tensor& gradient = arguments.tensor(9, "gradient", DType::kFloat32, {operands.query.dim(0), operands.query.dim(1)});
  Tensor gradient_query(DType::kFloat32, operands.query.shape()), gradient_key(DType::kFloat32, operands.key.shape());
  Tensor gradient_value(DType::kFloat32, operands.key.shape());
  cpu::cached_attention_backward(operands.problem, gradient.f32(), gradient_query.f32(), gradient_key.f32(), gradient_value.f32());
  return wrap_all(info.Env(), {gradient_query, gradient_key, gradient_value});
}

}  // namespace

void define_cached_attention(Napi::Object exports) {
  define<cached_attention>(exports, "cachedAttention");
  define<cached_attention_backward>(exports, "cachedAttentionBackward");
}

}  // namespace usmlite::binding
