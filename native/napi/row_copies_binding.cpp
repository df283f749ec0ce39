#include "core/row_copies.hpp"

#include <algorithm>

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

constexpr int64_t kLargestPadding = 1 << 20;

void check_indices(const Arguments& arguments, const Tensor& indices, int64_t rows) {
  for (int64_t i = 0; i < indices.count(); ++i) {
    const int32_t index = indices.i32()[i];
    if (index < 0 || index >= rows) {
      arguments.fail("index " + std::to_string(i) + " is " + std::to_string(index) + " but x has rows 0.." + std::to_string(rows - 1));
    }
  }
}

// addRows(x, indices, rows): row indices[i] of x += row i of rows
Napi::Value add_rows(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "addRows", 3);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const Tensor& indices = arguments.tensor(1, "indices", DType::kInt32, {kAny});
  const Tensor& rows = arguments.tensor(2, "rows", DType::kFloat32, {indices.count(), x.dim(1)});
  check_indices(arguments, indices, x.dim(0));
  usmlite::add_rows(rows.f32(), x.dim(1), indices.i32(), indices.count(), x.f32());
  return info.Env().Undefined();
}

// gatherRows(x, indices) -> tensor (indices, width)
Napi::Value gather_rows(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "gatherRows", 2);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const Tensor& indices = arguments.tensor(1, "indices", DType::kInt32, {kAny});
  check_indices(arguments, indices, x.dim(0));
  Tensor rows(DType::kFloat32, {indices.count(), x.dim(1)});
  usmlite::gather_rows(x.f32(), x.dim(1), indices.i32(), indices.count(), rows.f32());
  return TensorHandle::wrap(info.Env(), std::move(rows));
}

// padSequences(x, offsets, before, after) -> tensor (frames + sequences * (before + after), width)
Napi::Value pad_sequences(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "padSequences", 4);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const Tensor& offsets = arguments.offsets(1, "offsets", x.dim(0));
  const int64_t before = arguments.integer(2, "before", 0, kLargestPadding);
  const int64_t after = arguments.integer(3, "after", 0, kLargestPadding);
  const int64_t sequences = offsets.count() - 1;
  Tensor padded(DType::kFloat32, {x.dim(0) + sequences * (before + after), x.dim(1)});
  usmlite::pad_sequences(x.f32(), x.dim(1), offsets.i32(), sequences, before, after, padded.f32());
  return TensorHandle::wrap(info.Env(), std::move(padded));
}

// rotateRows(x, offsets, heads, theta, back) -> tensor like x
Napi::Value rotate_rows(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "rotateRows", 5);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const Tensor& offsets = arguments.offsets(1, "offsets", x.dim(0));
  const int64_t heads = arguments.integer(2, "heads", 1, 1 << 20);
  if (x.dim(1) == 0 || x.dim(1) % (2 * heads) != 0) {
    arguments.fail("x must hold " + std::to_string(heads) + " heads of an even size but has shape " + shape_text(x.shape()));
  }
  int64_t longest = 0;
  for (int64_t i = 1; i < offsets.count(); ++i) longest = std::max<int64_t>(longest, offsets.i32()[i] - offsets.i32()[i - 1]);
  const auto table = rotary_table(static_cast<float>(arguments.number(3, "theta", 1e-3, 1e12)), x.dim(1) / heads, longest);
  Tensor rotated(DType::kFloat32, x.shape());
  usmlite::rotate_rows(x.f32(), heads, x.dim(1) / heads, offsets.i32(), offsets.count() - 1, *table,
                       arguments.boolean(4, "back"), rotated.f32());
  return TensorHandle::wrap(info.Env(), std::move(rotated));
}

}  // namespace

void define_row_copies(Napi::Object exports) {
  define<add_rows>(exports, "addRows");
  define<gather_rows>(exports, "gatherRows");
  define<pad_sequences>(exports, "padSequences");
  define<rotate_rows>(exports, "rotateRows");
}

}  // namespace usmlite::binding
