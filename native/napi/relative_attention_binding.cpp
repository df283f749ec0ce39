#include "cpu/relative_attention.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/matmul_arguments.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

// relativeAttention(query, key, value, offsets, heads, keyValueHeads, scale, positions, origin, contentBias, positionBias, left,
// right) -> out. The row of `positions` for a distance d between a frame and the key it sees is origin - d.
Napi::Value relative_attention(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "relativeAttention", 13);
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
  const Tensor& content_bias = arguments.tensor(9, "contentBias", DType::kFloat32, {width});
  const Tensor& position_bias = arguments.tensor(10, "positionBias", DType::kFloat32, {width});
  const int64_t left = arguments.integer(11, "left", -1, int64_t{1} << 40), right = arguments.integer(12, "right", -1, int64_t{1} << 40);
  int64_t longest = 0;
  for (int64_t i = 1; i < offsets.count(); ++i) longest = std::max<int64_t>(longest, offsets.i32()[i] - offsets.i32()[i - 1]);
  const int64_t before = left < 0 ? longest - 1 : std::min(left, longest - 1), after = right < 0 ? longest - 1 : std::min(right, longest - 1);
  if (longest > 0 && (origin < before || origin + after >= positions.dim(0))) {
    arguments.fail("positions must have rows for distances from " + std::to_string(before) + " to -" + std::to_string(after) +
                   ", but its rows are for " + std::to_string(origin) + " to " + std::to_string(origin - positions.dim(0) + 1));
  }
  Tensor out(DType::kFloat32, query.shape());
  cpu::RelativeAttentionProblem problem;
  static_cast<cpu::AttentionProblem&>(problem) = {offsets.i32(), offsets.count() - 1, heads, key_value_heads, head_dim,
                                                  factor_argument(arguments, 6, "scale"), nullptr, {}, query.f32(), key.f32(), value.f32()};
  problem.positions = positions.f32();
  problem.position_rows = positions.dim(0);
  problem.origin = origin;
  problem.content_bias = content_bias.f32();
  problem.position_bias = position_bias.f32();
  problem.left = left;
  problem.right = right;
  cpu::relative_attention(problem, out.f32());
  return TensorHandle::wrap(info.Env(), std::move(out));
}

}  // namespace

void define_relative_attention(Napi::Object exports) { define<relative_attention>(exports, "relativeAttention"); }

}  // namespace usmlite::binding
