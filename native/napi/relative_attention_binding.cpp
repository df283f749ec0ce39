#include "cpu/integer_relative_attention.hpp"
#include "cpu/relative_attention.hpp"

#include <algorithm>

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/matmul_arguments.hpp"
#include "napi/results.hpp"

namespace usmlite::binding {
namespace {

// The problem that arguments query, key, value, offsets, heads, keyValueHeads, scale, positions, origin, contentBias, positionBias,
// left, right describe. The row of `positions` for a distance d between a frame and the key it sees is origin - d.
cpu::RelativeAttentionProblem problem_of(const Arguments& arguments) {
  const Tensor& query = arguments.tensor(0, "query", DType::kFloat32, {kAny, kAny});
  const int64_t frames = query.dim(0), width = query.dim(1);
  const int64_t heads = arguments.integer(4, "heads", 1, 1 << 20), key_value_heads = arguments.integer(5, "keyValueHeads", 1, 1 << 20);
  if (width == 0 || width % heads != 0 || heads % key_value_heads != 0) {
    arguments.fail("query must hold " + std::to_string(heads) + " heads of equal size, a multiple of the " + std::to_string(key_value_heads) +
                   " key heads, but has shape " + shape_text(query.shape()));
  }
  const int64_t head_dim = width / heads;
  const Tensor& key = arguments.tensor(1, "key", DType::kFloat32, {frames, key_value_heads * head_dim});
  const Tensor& value = arguments.tensor(2, "value", DType::kFloat32, {frames, key_value_heads * head_dim});
  const Tensor& offsets = arguments.offsets(3, "offsets", frames);
  const Tensor& positions = arguments.tensor(7, "positions", DType::kFloat32, {kAny, width});
  const int64_t origin = arguments.integer(8, "origin", 0, int64_t{1} << 40);
  const auto bias = [&](size_t index, const char* name) {
    const Tensor& tensor = arguments.tensor(index, name, DType::kFloat32);
    if (tensor.count() != width) {
      arguments.fail(std::string(name) + " must have " + std::to_string(width) + " values but has shape " + shape_text(tensor.shape()));
    }
    return tensor.f32();
  };
  const int64_t left = arguments.integer(11, "left", -1, int64_t{1} << 40), right = arguments.integer(12, "right", -1, int64_t{1} << 40);
  int64_t longest = 0;
  for (int64_t i = 1; i < offsets.count(); ++i) longest = std::max<int64_t>(longest, offsets.i32()[i] - offsets.i32()[i - 1]);
  const int64_t before = left < 0 ? longest - 1 : std::min(left, longest - 1), after = right < 0 ? longest - 1 : std::min(right, longest - 1);
  if (longest > 0 && (origin < before || origin + after >= positions.dim(0))) {
    arguments.fail("positions must have rows for distances from " + std::to_string(before) + " to -" + std::to_string(after) +
                   ", but its rows are for " + std::to_string(origin) + " to " + std::to_string(origin - positions.dim(0) + 1));
  }
  cpu::RelativeAttentionProblem problem;
  static_cast<cpu::AttentionProblem&>(problem) = {offsets.i32(), offsets.count() - 1, heads, key_value_heads, head_dim,
                                                  factor_argument(arguments, 6, "scale"), nullptr, {}, query.f32(), key.f32(), value.f32()};
  problem.positions = positions.f32();
  problem.position_rows = positions.dim(0);
  problem.origin = origin;
  problem.content_bias = bias(9, "contentBias");
  problem.position_bias = bias(10, "positionBias");
  problem.left = left;
  problem.right = right;
  return problem;
}

// relativeAttention(what problem_of takes, inIntegers) -> out
Napi::Value relative_attention(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "relativeAttention", 14);
  const cpu::RelativeAttentionProblem problem = problem_of(arguments);
  const bool in_integers = arguments.boolean(13, "inIntegers");
  if (in_integers && problem.head_dim > cpu::kWidestIntegerHead) {
    arguments.fail("heads have " + std::to_string(problem.head_dim) + " values; in whole numbers they have at most " +
                   std::to_string(cpu::kWidestIntegerHead));
  }
  Tensor out(DType::kFloat32, arguments.any_tensor(0, "query").shape());
  if (in_integers) cpu::integer_relative_attention(problem, out.f32()); else cpu::relative_attention(problem, out.f32());
  return TensorHandle::wrap(info.Env(), std::move(out));
}

// relativeAttentionBackward(what problem_of takes, out, gradient) -> gradients of [query, key, value, positions, contentBias, positionBias]
Napi::Value relative_attention_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "relativeAttentionBackward", 15);
  const cpu::RelativeAttentionProblem problem = problem_of(arguments);
  const Tensor& query = arguments.any_tensor(0, "query");
  const Tensor& out = arguments.tensor(13, "out", DType::kFloat32, {query.dim(0), query.dim(1)});
  const Tensor& gradient = arguments.tensor(14, "gradient", DType::kFloat32, {query.dim(0), query.dim(1)});
  const auto like = [&](size_t index, bool zero) {
    Tensor tensor(DType::kFloat32, arguments.any_tensor(index, "operand").shape());
    if (zero) std::fill_n(tensor.f32(), tensor.count(), 0.0f);
    return tensor;
  };
  const Tensor query_gradient = like(0, false), key = like(1, false), value = like(2, false), positions = like(7, true),
               content_bias = like(9, true), position_bias = like(10, true);
  cpu::relative_attention_backward(problem, out.f32(), gradient.f32(),
                                   cpu::RelativeAttentionGradients{query_gradient.f32(), key.f32(), value.f32(), positions.f32(),
                                                                   content_bias.f32(), position_bias.f32()});
  return wrap_all(info.Env(), {query_gradient, key, value, positions, content_bias, position_bias});
}

}  // namespace

void define_relative_attention(Napi::Object exports) {
  define<relative_attention>(exports, "relativeAttention");
  define<relative_attention_backward>(exports, "relativeAttentionBackward");
}

}  // namespace usmlite::binding
