// Compression in one shot: scales that are searched, and rounding that makes up for its errors.
#include <algorithm>

#include "codec/double_quantization.hpp"
#include "core/thread_pool.hpp"
#include "cpu/inverse_factor.hpp"
#include "cpu/scale_search.hpp"
#include "cpu/second_order_rounding.hpp"
#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

// inverseFactor(moments (n, n), damping): U (n, n)
Napi::Value inverse_factor(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "inverseFactor", 2);
  const Tensor& moments = arguments.tensor(0, "moments", DType::kFloat32, {kAny, kAny});
  const int64_t size = moments.dim(0);
  if (moments.dim(1) != size || size == 0) arguments.fail("moments must be square and not empty, not " + shape_text(moments.shape()));
  Tensor factor(DType::kFloat32, moments.shape());
  if (!cpu::inverse_factor(moments.f32(), size, static_cast<float>(arguments.number(1, "damping", 0.0, 1e6)), factor.f32())) {
    arguments.fail("moments are not positive definite; use a larger damping, or inputs that are finite");
  }
  return TensorHandle::wrap(info.Env(), std::move(factor));
}

struct Scales {
  Tensor scale, zero_point;

  Scales(const codec::WeightSpec& spec, int64_t rows, int64_t columns) {
    if (spec.is_integer()) scale = Tensor(DType::kFloat32, {rows, spec.scales_per_row(columns)});
    if (spec.has_zero_points()) zero_point = Tensor(DType::kFloat32, scale.shape());
  }
  float* scales() const { return scale.storage() ? scale.f32() : nullptr; }
  float* zero_points() const { return zero_point.storage() ? zero_point.f32() : nullptr; }
  void wrap(Napi::Env env, Napi::Object result) const {
    if (scale.storage()) result.Set("scale", TensorHandle::wrap(env, scale));
    if (zero_point.storage()) result.Set("zeroPoint", TensorHandle::wrap(env, zero_point));
  }
};

// searchScales(weight (rows, columns), spec, mask?, importance?): { scale, zeroPoint? }
Napi::Value search_scales(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "searchScales", 2);
  const Tensor& weight = arguments.tensor(0, "weight", DType::kFloat32, {kAny, kAny});
  const codec::WeightSpec spec = codec::parse_weight_spec(arguments.text(1, "spec"));
  const int64_t rows = weight.dim(0), columns = weight.dim(1), group = spec.group_size ? spec.group_size : columns;
  const Tensor* mask = arguments.optional_tensor(2, "mask", DType::kUint8, {rows, columns});
  const Tensor* importance = arguments.optional_tensor(3, "importance", DType::kFloat32, {columns});
  if (!spec.is_integer()) arguments.fail(codec::to_text(spec) + " has no scales");
  const Scales scales(spec, rows, columns);
  parallel_for(rows, 4, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      for (int64_t begin = 0; begin < columns; begin += group) {
        const int64_t at = row * columns + begin;
        const cpu::ScaleGroup of{weight.f32() + at, mask ? mask->data<uint8_t>() + at : nullptr,
                                 importance ? importance->f32() + begin : nullptr, std::min(group, columns - begin)};
        const codec::GroupScale found = cpu::search_scale(spec, of);
        const int64_t index = row * spec.scales_per_row(columns) + begin / group;
        scales.scales()[index] = found.scale;
        if (scales.zero_points()) scales.zero_points()[index] = found.zero_point;
      }
    }
  });
  codec::replace_unmeasured_scales(spec, weight.f32(), mask ? mask->data<uint8_t>() : nullptr, rows, columns, scales.scales());
  Napi::Object result = Napi::Object::New(info.Env());
  scales.wrap(info.Env(), result);
  return result;
}

// secondOrderRounding(weight (rows, columns), spec, factor, importance (columns), mask?, chooseMask, searchScales):
// { weight, mask?, scale?, zeroPoint? }
Napi::Value second_order_rounding(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "secondOrderRounding", 7);
  const Tensor& weight = arguments.tensor(0, "weight", DType::kFloat32, {kAny, kAny});
  const codec::WeightSpec spec = codec::parse_weight_spec(arguments.text(1, "spec"));
  const int64_t rows = weight.dim(0), columns = weight.dim(1);
  const Tensor& factor = arguments.tensor(2, "factor", DType::kFloat32, {columns, columns});
  const Tensor& importance = arguments.tensor(3, "importance", DType::kFloat32, {columns});
  const Tensor* given = arguments.optional_tensor(4, "mask", DType::kUint8, {rows, columns});
  const bool choose = arguments.boolean(5, "chooseMask");
  if (choose && !spec.is_sparse()) arguments.fail(codec::to_text(spec) + " prunes nothing; no mask can be chosen");
  if (spec.is_sparse() && !given && !choose) arguments.fail(codec::to_text(spec) + " needs a mask");
  for (int64_t j = 0; j < columns; ++j) {
    if (!(factor.f32()[j * columns + j] > 0.0f)) arguments.fail("factor must be upper triangular with a positive diagonal");
  }
  Tensor rounded(DType::kFloat32, weight.shape()), mask;
  std::copy_n(weight.f32(), weight.count(), rounded.f32());
  if (choose || given) mask = Tensor(DType::kUint8, weight.shape());
  if (given) std::copy_n(given->data<uint8_t>(), given->count(), mask.data<uint8_t>());
  const Scales scales(spec, rows, columns);
  const cpu::SecondOrderRounding rounding{.spec = spec,
                                          .rows = rows,
                                          .columns = columns,
                                          .factor = factor.f32(),
                                          .importance = importance.f32(),
                                          .choose_mask = choose,
                                          .search_scales = arguments.boolean(6, "searchScales"),
                                          .weights = rounded.f32(),
                                          .mask = mask.storage() ? mask.data<uint8_t>() : nullptr,
                                          .scales = scales.scales(),
                                          .zero_points = scales.zero_points()};
  cpu::second_order_rounding(rounding);
  codec::replace_unmeasured_scales(spec, rounded.f32(), rounding.mask, rows, columns, scales.scales());
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("weight", TensorHandle::wrap(info.Env(), std::move(rounded)));
  if (mask.storage()) result.Set("mask", TensorHandle::wrap(info.Env(), std::move(mask)));
  scales.wrap(info.Env(), result);
  return result;
}

}  // namespace

void define_one_shot(Napi::Object exports) {
  define<inverse_factor>(exports, "inverseFactor");
  define<search_scales>(exports, "searchScales");
  define<second_order_rounding>(exports, "secondOrderRounding");
}

}  // namespace usmlite::binding
