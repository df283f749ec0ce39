// Weight specs, N:M masks, packing and unpacking of weights.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "codec/pack.hpp"
#include "codec/quantize.hpp"
#include "codec/window_order.hpp"
#include "core/thread_pool.hpp"
#include "cpu/fake_quantize.hpp"
#include "napi/arguments.hpp"
#include "napi/codec_arguments.hpp"
#include "napi/groups.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

constexpr int64_t kRowGrain = 16;  // rows per thread

// parseWeightSpec(text)
Napi::Value parse_spec(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "parseWeightSpec", 1);
  const codec::WeightSpec spec = codec::parse_weight_spec(arguments.text(0, "spec"));
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("text", codec::to_text(spec));
  result.Set("format", codec::format_text(spec));
  result.Set("bits", spec.format == codec::NumberFormat::kTernary ? 1.6 : spec.bits);
  result.Set("groupSize", static_cast<double>(spec.group_size));
  result.Set("kept", spec.kept);
  result.Set("of", spec.of);
  result.Set("doubleQuantized", spec.double_quantized);
  return result;
}

// packedBytes(spec, rows, columns): bytes of codes, scales with zero points, and mask
Napi::Value packed_bytes(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "packedBytes", 3);
  const codec::PackedLayout layout(codec::parse_weight_spec(arguments.text(0, "spec")),
                                   arguments.integer(1, "rows", 0, kMaximumRows),
                                   arguments.integer(2, "columns", 0, kMaximumColumns));
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("codes", static_cast<double>(layout.code_bytes));
  result.Set("scales", static_cast<double>(layout.scale_bytes()));
  result.Set("mask", static_cast<double>(layout.mask_bytes));
  return result;
}

// magnitudeMask(weight (rows, columns), kept, of) -> uint8 (rows, columns)
Napi::Value magnitude_mask(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "magnitudeMask", 3);
  const Tensor& weight = arguments.tensor(0, "weight", DType::kFloat32, {kAny, kAny});
  const int of = static_cast<int>(arguments.integer(2, "m", 2, 16));
  const int kept = static_cast<int>(arguments.integer(1, "n", 1, of - 1));
  Tensor mask(DType::kUint8, weight.shape());
  const int64_t columns = weight.dim(1);
  parallel_for(weight.dim(0), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      codec::magnitude_mask(weight.f32() + row * columns, columns, kept, of, mask.data<uint8_t>() + row * columns);
    }
  });
  return TensorHandle::wrap(info.Env(), std::move(mask));
}

// The tensors of a packed matrix in the types and shapes of the file format.
Tensor code_tensor(const codec::PackedLayout& layout) {
  const codec::WeightSpec& spec = layout.spec;
  if (!spec.is_integer() && spec.is_sparse()) return Tensor(DType::kFloat32, {layout.code_bytes / 4});
  if (!spec.is_integer()) return Tensor(DType::kFloat32, {layout.rows, layout.columns});
  if (spec.is_sparse()) return Tensor(DType::kUint8, {layout.code_bytes});
  if (spec.format == codec::NumberFormat::kTernary) return Tensor(DType::kUint8, {layout.rows, layout.row_bytes});
  return Tensor(DType::kInt32, {layout.rows, layout.row_bytes / 4});
}

void check_given_scales(const Arguments& arguments, const codec::WeightSpec& spec, const Tensor* scale,
                        const Tensor* zero_point) {
  if (!scale && !zero_point) return;
  const std::string text = codec::to_text(spec);
  if (!spec.is_integer()) arguments.fail(text + " has no scales; leave them out");
  if (!scale || (zero_point != nullptr) != spec.has_zero_points()) {
    arguments.fail(spec.has_zero_points() ? text + " takes scales and zero points, or neither" : text + " takes scales alone");
  }
  for (int64_t i = 0; i < scale->count(); ++i) {
    if (!(scale->f32()[i] > 0.0f && std::isfinite(scale->f32()[i]))) arguments.fail("a scale is not positive and finite");
    if (zero_point && !std::isfinite(zero_point->f32()[i])) arguments.fail("a zero point is not finite");
  }
}

Tensor tensor_of(DType dtype, std::vector<int64_t> shape, const void* values) {
  Tensor tensor(dtype, std::move(shape));
  std::memcpy(tensor.data<uint8_t>(), values, tensor.bytes());
  return tensor;
}

// packWeight(weight (rows, columns), spec, mask?, scale?, zeroPoint?) -> { packed, scale, scaleSteps, zeroPoint, mask }
Napi::Value pack_weight(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "packWeight", 2);
  const Tensor& weight = arguments.tensor(0, "weight", DType::kFloat32, {kAny, kAny});
  const codec::WeightSpec spec = codec::parse_weight_spec(arguments.text(1, "spec"));
  const int64_t rows = weight.dim(0), columns = weight.dim(1);
  const Tensor* mask = arguments.optional_tensor(2, "mask", DType::kUint8, {rows, columns});
  const Tensor* given_scale = arguments.optional_tensor(3, "scale", DType::kFloat32, {rows, spec.scales_per_row(columns)});
  const Tensor* given_zero_point =
      arguments.optional_tensor(4, "zeroPoint", DType::kFloat32, {rows, spec.zero_points_per_row(columns)});
  check_given_scales(arguments, spec, given_scale, given_zero_point);
  if (weight.count() == 0) arguments.fail("the weight is empty; it must have at least one row and one column");
  if (spec.is_sparse() && !mask) arguments.fail(codec::to_text(spec) + " needs a mask");
  const codec::PackedLayout layout(spec, rows, columns);
  codec::QuantizedScales coded;
  Tensor used_scale;  // instead of what the format's rule gives
  if (given_scale) used_scale = *given_scale;
  if (spec.double_quantized) {
    if (!given_scale) {
      used_scale = Tensor(DType::kFloat32, {rows, spec.scales_per_row(columns)});
      const cpu::WeightGroups groups{weight.f32(), mask ? mask->data<uint8_t>() : nullptr, rows, columns, spec};
      cpu::group_scales(groups, codec::ScaleRule(), used_scale.f32(), static_cast<float*>(nullptr));
    }
    coded = codec::quantize_scales({used_scale.f32(), static_cast<size_t>(used_scale.count())});
    used_scale = tensor_of(DType::kFloat32, used_scale.shape(), codec::dequantize_scales(coded.codes, coded.steps).data());
  }
  const bool scales_given = used_scale.storage() != nullptr;
  Tensor packed = code_tensor(layout);
  Tensor scale(DType::kFloat32, {rows, spec.scales_per_row(columns)});
  Tensor zero_point(DType::kFloat32, {rows, spec.zero_points_per_row(columns)});
  Tensor packed_mask(DType::kUint8, {layout.mask_bytes});
  std::fill_n(packed.data<uint8_t>(), packed.bytes(), uint8_t{0});
  std::fill_n(packed_mask.data<uint8_t>(), packed_mask.bytes(), uint8_t{0});

  codec::Packer packer(layout, {{packed.data<uint8_t>(), packed.bytes()},
                                {scale.f32(), static_cast<size_t>(scale.count())},
                                {packed_mask.data<uint8_t>(), packed_mask.bytes()},
                                {zero_point.f32(), static_cast<size_t>(zero_point.count())}});
  std::vector<int32_t> levels(static_cast<size_t>(columns));
  std::vector<float> scales(static_cast<size_t>(spec.scales_per_row(columns))), zero_points(scales.size());
  for (int64_t row = 0; row < rows; ++row) {
    const uint8_t* row_mask = mask ? mask->data<uint8_t>() + row * columns : nullptr;
    const int64_t width = static_cast<int64_t>(scales.size());
    if (scales_given) std::copy_n(used_scale.f32() + row * width, width, scales.data());
    if (given_zero_point) std::copy_n(given_zero_point->f32() + row * width, width, zero_points.data());
    codec::quantize_row(spec, weight.f32() + row * columns, row_mask, columns, levels.data(), scales.data(),
                        zero_points.data(), scales_given);
    packer.pack_row(row, {levels.data(), scales.data(), zero_points.data(), row_mask});
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("packed", TensorHandle::wrap(info.Env(), std::move(packed)));
  if (spec.double_quantized) {
    scale = tensor_of(DType::kUint8, scale.shape(), coded.codes.data());
    Tensor steps = tensor_of(DType::kFloat32, {layout.scale_step_count}, coded.steps.data());
    result.Set("scaleSteps", TensorHandle::wrap(info.Env(), std::move(steps)));
  }
  if (spec.is_integer()) result.Set("scale", TensorHandle::wrap(info.Env(), std::move(scale)));
  if (spec.has_zero_points()) result.Set("zeroPoint", TensorHandle::wrap(info.Env(), std::move(zero_point)));
  if (spec.is_sparse()) result.Set("mask", TensorHandle::wrap(info.Env(), std::move(packed_mask)));
  return result;
}

// unpackWeight(spec, rows, columns, packed, scale?, mask?, zeroPoint?, scaleSteps?) -> { weight, mask }, both (rows, columns)
Napi::Value unpack_weight(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "unpackWeight", 4);
  const codec::Unpacker unpacker = packed_argument(arguments, 0);
  const codec::PackedLayout& layout = unpacker.layout();
  Tensor weight(DType::kFloat32, {layout.rows, layout.columns});
  Tensor mask(DType::kUint8, {layout.rows, layout.columns});
  parallel_for(layout.rows, kRowGrain, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> levels(static_cast<size_t>(layout.columns));
    for (int64_t row = begin; row < end; ++row) {
      uint8_t* row_mask = mask.data<uint8_t>() + row * layout.columns;
      unpacker.unpack_row(row, levels.data(), row_mask);
      codec::dequantize_row(layout.spec, levels.data(), unpacker.scales(row), unpacker.zero_points(row), row_mask,
                            layout.columns, weight.f32() + row * layout.columns);
    }
  });
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("weight", TensorHandle::wrap(info.Env(), std::move(weight)));
  result.Set("mask", TensorHandle::wrap(info.Env(), std::move(mask)));
  return result;
}

// swapLastAxes(x (a, b, c)): (a, c, b), of floats or bytes
Napi::Value swap_last_axes(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "swapLastAxes", 1);
  const Tensor& x = arguments.any_tensor(0, "x");
  if (x.rank() != 3 || (x.dtype() != DType::kFloat32 && x.dtype() != DType::kUint8)) {
    arguments.fail("x must be a float32 or uint8 tensor of rank 3");
  }
  Tensor swapped(x.dtype(), {x.dim(0), x.dim(2), x.dim(1)});
  if (x.dtype() == DType::kFloat32) codec::swap_last_axes(x.f32(), x.dim(0), x.dim(1), x.dim(2), swapped.f32());
  else codec::swap_last_axes(x.data<uint8_t>(), x.dim(0), x.dim(1), x.dim(2), swapped.data<uint8_t>());
  return TensorHandle::wrap(info.Env(), std::move(swapped));
}

}  // namespace

codec::Unpacker packed_argument(const Arguments& arguments, size_t first) {
  const codec::PackedLayout layout(codec::parse_weight_spec(arguments.text(first, "spec")),
                                   arguments.integer(first + 1, "rows", 0, kMaximumRows),
                                   arguments.integer(first + 2, "columns", 0, kMaximumColumns));
  const Tensor& packed = arguments.any_tensor(first + 3, "weight_packed");
  std::span<const float> scales;
  std::span<const uint8_t> mask;
  std::span<const float> zero_points;
  std::span<const uint8_t> scale_codes;
  std::span<const float> scale_steps;
  if (arguments.has(first + 4)) {
    const Tensor& tensor = arguments.tensor(first + 4, "weight_scale", layout.spec.double_quantized ? DType::kUint8 : DType::kFloat32);
    if (layout.spec.double_quantized) scale_codes = {tensor.data<uint8_t>(), tensor.bytes()};
    else scales = {tensor.f32(), static_cast<size_t>(tensor.count())};
  }
  if (arguments.has(first + 5)) {
    const Tensor& tensor = arguments.tensor(first + 5, "weight_mask", DType::kUint8);
    mask = {tensor.data<uint8_t>(), tensor.bytes()};
  }
  if (arguments.has(first + 6)) {
    const Tensor& tensor = arguments.tensor(first + 6, "weight_zero_point", DType::kFloat32);
    zero_points = {tensor.f32(), static_cast<size_t>(tensor.count())};
  }
  if (arguments.has(first + 7)) {
    const Tensor& tensor = arguments.tensor(first + 7, "weight_scale_steps", DType::kFloat32);
    scale_steps = {tensor.f32(), static_cast<size_t>(tensor.count())};
  }
  return codec::Unpacker(layout, {{packed.data<uint8_t>(), packed.bytes()}, scales, mask, zero_points, scale_codes, scale_steps});
}

Tensor packed_scales(const codec::WeightSpec& spec, const Tensor& scales) {
  if (!spec.double_quantized) return scales;
  const auto [codes, steps] = codec::quantize_scales({scales.f32(), static_cast<size_t>(scales.count())});
  return tensor_of(DType::kFloat32, scales.shape(), codec::dequantize_scales(codes, steps).data());
}

void define_codec(Napi::Object exports) {
  define<parse_spec>(exports, "parseWeightSpec");
  define<packed_bytes>(exports, "packedBytes");
  define<magnitude_mask>(exports, "magnitudeMask");
  define<pack_weight>(exports, "packWeight");
  define<unpack_weight>(exports, "unpackWeight");
  define<swap_last_axes>(exports, "swapLastAxes");
}

}  // namespace usmlite::binding
