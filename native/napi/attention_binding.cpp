#include "cpu/attention.hpp"
#include "cpu/integer_attention.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/results.hpp"

namespace usmlite::binding {
namespace {

constexpr int64_t kMaximumSequence = int64_t{1} << 18;  // frames; what dropout_index leaves room for

// Every attention function begins (query, key, value, offsets, heads, keyValueHeads, ropeTheta?, scale,
// dropoutProbability, seed, ..).
struct AttentionOperands {
  const Tensor& query;
  const Tensor& key;
  const Tensor& value;
  std::shared_ptr<const RotaryTable> rotary;  // keeps problem.rotary alive
  cpu::AttentionProblem problem;
};

AttentionOperands attention_operands(const Arguments& arguments) {
  const Tensor& query = arguments.tensor(0, "query", DType::kFloat32, {kAny, kAny});
  const int64_t frames = query.dim(0);
  const int64_t heads = arguments.integer(4, "heads", 1, 1 << 20);
  const int64_t key_value_heads = arguments.integer(5, "keyValueHeads", 1, 1 << 20);
  if (query.dim(1) % heads != 0 || query.dim(1) == 0) {
    arguments.fail("query must hold " + std::to_string(heads) + " heads of equal size but has shape " +
                   shape_text(query.shape()));
  }
  if (heads % key_value_heads != 0) {
    arguments.fail("heads must be a multiple of keyValueHeads but they are " + std::to_string(heads) + " and " +
                   std::to_string(key_value_heads));
  }
  const int64_t head_dim = query.dim(1) / heads;
  const Tensor& key = arguments.tensor(1, "key", DType::kFloat32, {frames, key_value_heads * head_dim});
  const Tensor& value = arguments.tensor(2, "value", DType::kFloat32, {frames, key_value_heads * head_dim});
  const Tensor& offsets = arguments.offsets(3, "offsets", frames);
  int64_t longest = 0;
  for (int64_t i = 1; i < offsets.count(); ++i) {
    longest = std::max<int64_t>(longest, offsets.i32()[i] - offsets.i32()[i - 1]);
  }
  if (longest > kMaximumSequence) {
    arguments.fail("a sequence has " + std::to_string(longest) + " frames; at most " + std::to_string(kMaximumSequence) +
                   " are supported");
  }
  std::shared_ptr<const RotaryTable> rotary;
  if (arguments.has(6)) {
    if (head_dim % 2 != 0) {
      arguments.fail("rotary embedding needs an even head size but it is " + std::to_string(head_dim));
    }
    rotary = rotary_table(static_cast<float>(arguments.number(6, "ropeTheta", 1e-3, 1e12)), head_dim, longest);
  }
  const float scale = static_cast<float>(arguments.number(7, "scale", -1e6, 1e6));
  const Dropout dropout = arguments.dropout(8);
  const RotaryTable* table = rotary.get();
  return {query, key, value, std::move(rotary),
          {offsets.i32(), offsets.count() - 1, heads, key_value_heads, head_dim, scale, table, dropout, query.f32(),
           key.f32(), value.f32()}};
}

// attention(.., wantsLogSum) -> [out, logSum?]; logSum (frames, heads) is for the backward pass
Napi::Value attention(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "attention", 11);
  const AttentionOperands operands = attention_operands(arguments);
  Tensor out(DType::kFloat32, operands.query.shape());
  Tensor log_sum = tensor_if(arguments.boolean(10, "wantsLogSum"), {operands.query.dim(0), operands.problem.heads});
  cpu::attention_forward(operands.problem, out.f32(), data_or_null(log_sum));
  return wrap_all(info.Env(), {out, log_sum});
}

// integerAttention(.., wantsLogSum) -> [out, logSum?]; without dropout
Napi::Value integer_attention(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "integerAttention", 11);
  const AttentionOperands operands = attention_operands(arguments);
  if (operands.problem.head_dim > cpu::kWidestIntegerHead) {
    arguments.fail("heads have " + std::to_string(operands.problem.head_dim) + " values; in whole numbers they have at most " +
                   std::to_string(cpu::kWidestIntegerHead));
  }
  if (operands.problem.dropout.active()) arguments.fail("there is no dropout in whole numbers");
  Tensor out(DType::kFloat32, operands.query.shape());
  Tensor log_sum = tensor_if(arguments.boolean(10, "wantsLogSum"), {operands.query.dim(0), operands.problem.heads});
  cpu::integer_attention(operands.problem, out.f32(), data_or_null(log_sum));
  return wrap_all(info.Env(), {out, log_sum});
}

// attentionBackward(.., out, logSum, gradient) -> [gradientQuery, gradientKey, gradientValue]
Napi::Value attention_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "attentionBackward", 13);
  const AttentionOperands operands = attention_operands(arguments);
  const int64_t frames = operands.query.dim(0), width = operands.query.dim(1);
  const Tensor& out = arguments.tensor(10, "out", DType::kFloat32, {frames, width});
  const Tensor& log_sum = arguments.tensor(11, "logSum", DType::kFloat32, {frames, operands.problem.heads});
  const Tensor& gradient = arguments.tensor(12, "gradient", DType::kFloat32, {frames, width});
  Tensor gradient_query(DType::kFloat32, operands.query.shape()), gradient_key(DType::kFloat32, operands.key.shape());
  Tensor gradient_value(DType::kFloat32, operands.value.shape());
  cpu::attention_backward(operands.problem, out.f32(), log_sum.f32(), gradient.f32(), gradient_query.f32(),
                          gradient_key.f32(), gradient_value.f32());
  return wrap_all(info.Env(), {gradient_query, gradient_key, gradient_value});
}

}  // namespace

void define_attention(Napi::Object exports) {
  define<attention>(exports, "attention");
  define<integer_attention>(exports, "integerAttention");
  define<attention_backward>(exports, "attentionBackward");
}

}  // namespace usmlite::binding
