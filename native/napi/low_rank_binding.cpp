#include "cpu/low_rank.hpp"

#include <string>

#include "cpu/packed_gradient.hpp"
#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/matmul_arguments.hpp"
#include "napi/packed_matrix_binding.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

// lowRankAdd(y, x, offsets, down, up, which, scale, activation): row run i, from offsets[i] to offsets[i + 1], gets the factors
// down[which[i]] (rank, in) and up[which[i]] (rank, out), or none where which[i] is -1.
Napi::Value low_rank_add(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "lowRankAdd", 8);
  const Tensor& y = arguments.tensor(0, "y", DType::kFloat32, {kAny, kAny});
  const int64_t rows = y.dim(0), out = y.dim(1);
  const Tensor& x = arguments.tensor(1, "x", DType::kFloat32, {rows, kAny});
  const int64_t in = x.dim(1);
  const Tensor& offsets = arguments.offsets(2, "offsets", rows);
  const std::vector<Tensor> down = arguments.tensors(3, "down", DType::kFloat32);
  const std::vector<Tensor> up = arguments.tensors(4, "up", DType::kFloat32);
  if (down.size() != up.size()) arguments.fail("down and up must be of the same number");
  for (size_t i = 0; i < down.size(); ++i) {
    if (down[i].rank() != 2 || up[i].rank() != 2 || down[i].dim(1) != in || up[i].dim(1) != out || down[i].dim(0) != up[i].dim(0)) {
      arguments.fail("factors " + shape_text(down[i].shape()) + " and " + shape_text(up[i].shape()) +
                     " do not fit a layer from " + std::to_string(in) + " to " + std::to_string(out) +
                     " features; they must be (rank, in) and (rank, out)");
    }
  }
  const std::vector<int64_t> which = arguments.integers(5, "which", -1, static_cast<int64_t>(down.size()) - 1);
  if (static_cast<int64_t>(which.size()) + 1 != offsets.dim(0)) {
    arguments.fail("which must have a number for each of " + std::to_string(offsets.dim(0) - 1) + " runs of rows");
  }
  std::vector<cpu::LowRankSegment> segments;
  for (size_t i = 0; i < which.size(); ++i) {
    cpu::LowRankSegment segment{offsets.i32()[i], offsets.i32()[i + 1]};
    if (which[i] >= 0) {
      segment.rank = down[which[i]].dim(0);
      segment.down = down[which[i]].f32();
      segment.up = up[which[i]].f32();
    }
    segments.push_back(segment);
  }
  cpu::low_rank_add(segments.data(), static_cast<int64_t>(segments.size()), in, out, x.f32(), y.f32(),
                    factor_argument(arguments, 6, "scale"), activation_argument(arguments, 7));
  return info.Env().Undefined();
}

// packedGradient(gradient, matrix, scale): scale * gradient (frames, out) . weight (out, in)
Napi::Value packed_gradient(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "packedGradient", 3);
  const auto weight = PackedMatrixHandle::from(arguments, info[1]);
  const Tensor& gradient = arguments.tensor(0, "gradient", DType::kFloat32, {kAny, weight->rows()});
  Tensor result(DType::kFloat32, {gradient.dim(0), weight->columns()});
  cpu::packed_gradient(*weight, gradient.dim(0), gradient.f32(), factor_argument(arguments, 2, "scale"), result.f32());
  return TensorHandle::wrap(info.Env(), std::move(result));
}

}  // namespace

void define_low_rank(Napi::Object exports) {
  define<low_rank_add>(exports, "lowRankAdd");
  define<packed_gradient>(exports, "packedGradient");
}

}  // namespace usmlite::binding
