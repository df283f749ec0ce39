// Checked operands of attention on the GPU.
#pragma once
#include <algorithm>
#include <string>

#include "cuda/attention.hpp"
#include "napi/cuda_operands.hpp"

namespace usmlite::binding {

/// The argument `index`: keys of `frames` frames, for every head of the query or each for several.
inline const cuda::DeviceTensor& key_argument(Operands& operands, size_t index, const cuda::DeviceTensor& query, int64_t head_dim, int64_t frames) {
  const int64_t columns = operands.any_floats(index, "key").columns();
  const bool is_shared = columns > 0 && columns % head_dim == 0 && query.columns() % columns == 0;
  return operands.like(index, "key", query, {frames, is_shared ? columns : query.columns()});
}

struct RelativePositions {
  const cuda::DeviceTensor *positions = nullptr, *content_bias = nullptr, *position_bias = nullptr;
  int origin = 0;
  cuda::AttentionWindow window = {};
};

/// The arguments positions, contentBias, positionBias, origin, left, right from `index` on; left and right are -1 where all is seen.
inline RelativePositions relative_argument(const Arguments& arguments, Operands& operands, size_t index, const cuda::DeviceTensor& query,
                                           int64_t longest) {
  const int64_t width = query.columns(), rows = operands.any_floats(index, "positions").rows();
  RelativePositions relative{&operands.like(index, "positions", query, {rows, width}), &operands.like(index + 1, "contentBias", query, {width}),
                             &operands.like(index + 2, "positionBias", query, {width})};
  const int64_t origin = arguments.integer(index + 3, "origin", 0, cuda::AttentionWindow::kAll);
  const auto limit = [&](size_t at, const char* name) {
    const int64_t frames = arguments.integer(at, name, -1, cuda::AttentionWindow::kAll);
    return frames < 0 ? cuda::AttentionWindow::kAll : static_cast<int>(frames);
  };
  relative.origin = static_cast<int>(origin);
  relative.window = {limit(index + 4, "left"), limit(index + 5, "right")};
  const int64_t before = std::min<int64_t>(relative.window.left, longest - 1), after = std::min<int64_t>(relative.window.right, longest - 1);
  if (longest > 0 && (origin < before || origin + after >= rows)) {
    arguments.fail("positions must have rows for distances from " + std::to_string(before) + " to -" + std::to_string(after) +
                   ", but its rows are for " + std::to_string(origin) + " to " + std::to_string(origin - rows + 1));
  }
  return relative;
}

}  // namespace usmlite::binding
