#include "codec/pack.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "core/error.hpp"

namespace usmlite::codec {
namespace {

MaskStream mask_stream(const WeightSpec& spec) { return spec.is_sparse() ? MaskStream(spec.kept, spec.of) : MaskStream(1, 2); }

void check_size(const char* part, size_t actual, int64_t expected, const PackedLayout& layout) {
  if (static_cast<int64_t>(actual) == expected) return;
  throw Error(error_code::kBadCheckpoint, std::string(part) + " has " + std::to_string(actual) + " bytes; " +
                                              to_text(layout.spec) + " of (" + std::to_string(layout.rows) + ", " +
                                              std::to_string(layout.columns) + ") needs " + std::to_string(expected));
}

[[noreturn]] void bad_row(int64_t row, const std::string& problem) {
  throw Error(error_code::kBadCheckpoint, "weight_packed, row " + std::to_string(row) + ": " + problem);
}

// Symmetric formats do not use the stored value 0.
[[noreturn]] void bad_code(int64_t row, const WeightSpec& spec) {
  bad_row(row, "code " + std::to_string(spec.level(0)) + " is outside +-" + std::to_string(spec.highest_level()));
}

}  // namespace

PackedLayout::PackedLayout(const WeightSpec& spec, int64_t rows, int64_t columns)
    : spec(spec), rows(rows), columns(columns) {
  const CodeStream stream(spec, rows, columns);
  row_bytes = stream.row_bytes();
  code_bytes = stream.bytes();
  scale_count = rows * spec.scales_per_row(columns);
  scale_step_count = spec.double_quantized ? codec::scale_step_count(scale_count) : 0;
  zero_point_count = rows * spec.zero_points_per_row(columns);
  mask_bytes = spec.is_sparse() ? mask_stream(spec).bytes(rows * spec.groups_per_row(columns)) : 0;
}

Packer::Packer(const PackedLayout& layout, PackedParts<uint8_t, float> parts)
    : layout_(layout), parts_(parts), stream_(layout.spec, layout.rows, layout.columns), masks_(mask_stream(layout.spec)) {}

void Packer::pack_row(int64_t row, const QuantizedRow& values) {
  const WeightSpec& spec = layout_.spec;
  const int64_t columns = layout_.columns, scales = spec.scales_per_row(columns);
  if (!spec.double_quantized) std::copy_n(values.scales, scales, parts_.scales.data() + row * scales);
  if (spec.has_zero_points()) std::copy_n(values.zero_points, scales, parts_.zero_points.data() + row * scales);
  if (spec.is_sparse()) {
    for (int64_t group = 0; group < spec.groups_per_row(columns); ++group) pack_group(row, group, values);
  } else {
    for (int64_t i = 0; i < columns; ++i) stream_.write(parts_.codes.data(), row, i, spec.raw(values.levels[i]));
  }
}

void Packer::pack_group(int64_t row, int64_t group, const QuantizedRow& values) {
  const WeightSpec& spec = layout_.spec;
  const int64_t begin = group * spec.of, inputs = std::min<int64_t>(spec.of, layout_.columns - begin);
  uint32_t kept = 0;
  for (int i = 0; i < inputs; ++i) kept |= (values.mask[begin + i] ? 1u : 0u) << i;
  const int count = std::popcount(kept);
  if (count > spec.kept || (count < std::min<int64_t>(spec.kept, inputs) && !spec.has_zero())) {
    throw Error(error_code::kInvalidArgument,
                "the mask keeps " + std::to_string(count) + " of the " + std::to_string(spec.of) + " inputs from " +
                    std::to_string(begin) + " on; " + to_text(spec) + (spec.has_zero() ? " keeps at most " : ", which has no zero, keeps ") +
                    std::to_string(spec.kept));
  }
  while (std::popcount(kept) < spec.kept) kept |= kept + 1;  // sets the lowest clear bit
  masks_.write(parts_.mask.data(), row * spec.groups_per_row(layout_.columns) + group, kept);
  const uint32_t nothing = spec.has_zero() ? spec.raw(0) : 0;  // for places beyond the row
  for (int64_t place = group * spec.kept; kept; kept &= kept - 1, ++place) {
    const int i = std::countr_zero(kept);
    stream_.write(parts_.codes.data(), row, place, i < inputs ? spec.raw(values.levels[begin + i]) : nothing);
  }
}

Unpacker::Unpacker(const PackedLayout& layout, PackedParts<const uint8_t, const float> parts)
    : layout_(layout), parts_(parts), stream_(layout.spec, layout.rows, layout.columns), masks_(mask_stream(layout.spec)),
      scales_per_row_(layout.spec.scales_per_row(layout.columns)) {
  check_size("weight_packed", parts.codes.size(), layout.code_bytes, layout);
  const bool coded = layout.spec.double_quantized;
  check_size("weight_scale", coded ? parts.scale_codes.size() : parts.scales.size_bytes(), layout.scale_count * (coded ? 1 : 4), layout);
  check_size("weight_scale_steps", parts.scale_steps.size_bytes(), layout.scale_step_count * 4, layout);
  check_size("weight_zero_point", parts.zero_points.size_bytes(), layout.zero_point_count * 4, layout);
  check_size("weight_mask", parts.mask.size(), layout.mask_bytes, layout);
  if (coded) {
    expanded_scales_ = std::make_shared<const std::vector<float>>(dequantize_scales(parts.scale_codes, parts.scale_steps));
    parts_.scales = *expanded_scales_;
  }
  for (float scale : parts.scales) {
    if (!(std::isfinite(scale) && scale > 0.0f)) {
      throw Error(error_code::kBadCheckpoint,
                  "weight_scale holds " + std::to_string(scale) + "; scales are positive, finite numbers");
    }
  }
  for (float zero_point : parts.zero_points) {
    if (!std::isfinite(zero_point)) throw Error(error_code::kBadCheckpoint, "weight_zero_point holds NaN or infinity");
  }
}

// Stored values become levels, in place.
void Unpacker::levels_of(int64_t row, int32_t* codes, int64_t count) const {
  const WeightSpec& spec = layout_.spec;
  if (!spec.is_integer()) {
    for (int64_t i = 0; i < count; ++i) {
      if (!std::isfinite(std::bit_cast<float>(codes[i]))) bad_row(row, "a weight is NaN or infinite");
    }
    return;
  }
  if (spec.format == NumberFormat::kSymmetric) {
    int32_t lowest = 1;
    for (int64_t i = 0; i < count; ++i) lowest = std::min(lowest, codes[i]);
    if (lowest == 0) bad_code(row, spec);
  }
  if (spec.format == NumberFormat::kNormalFloat4) {
    for (int64_t i = 0; i < count; ++i) codes[i] = kNormalFloat4Levels[static_cast<size_t>(codes[i])];
    return;
  }
  const int32_t first = spec.level(0), step = spec.level(1) - first;
  for (int64_t i = 0; i < count; ++i) codes[i] = first + step * codes[i];
}

void Unpacker::read_codes(int64_t row, uint8_t* raw) const {
  stream_.read_row(parts_.codes.data(), row, raw);
  if (layout_.spec.format != NumberFormat::kSymmetric) return;
  uint8_t lowest = 255;
  for (int64_t i = 0; i < stream_.codes_per_row(); ++i) lowest = std::min(lowest, raw[i]);
  if (lowest == 0) bad_code(row, layout_.spec);
}

void Unpacker::fail_beyond_row(int64_t row) const {
  bad_row(row, "a weight beyond the last of " + std::to_string(layout_.columns) + " inputs is not zero");
}

// Puts the stored levels of a sparse row where its masks say.
void Unpacker::spread(int64_t row, const int32_t* stored, int32_t* levels, uint8_t* mask) const {
  const WeightSpec& spec = layout_.spec;
  const int64_t columns = layout_.columns, whole = columns / spec.of;
  std::fill_n(levels, columns, 0);
  if (mask) std::fill_n(mask, columns, uint8_t{0});
  read_masks(row, [&](int64_t group, uint32_t kept) {
    for (; kept; kept &= kept - 1, ++stored) {
      const int64_t column = group * spec.of + std::countr_zero(kept);
      if (group < whole || column < columns) {
        levels[column] = *stored;
        if (mask) mask[column] = 1;
      } else if (*stored != 0 && spec.has_zero()) {
        fail_beyond_row(row);
      }
    }
  });
}

void Unpacker::unpack_row(int64_t row, int32_t* levels, uint8_t* mask) const {
  const int64_t count = stream_.codes_per_row();
  if (!layout_.spec.is_sparse()) {
    stream_.read_row(parts_.codes.data(), row, reinterpret_cast<uint32_t*>(levels));
    levels_of(row, levels, count);
    if (mask) std::fill_n(mask, count, uint8_t{1});
    return;
  }
  std::vector<int32_t> stored(static_cast<size_t>(count));
  stream_.read_row(parts_.codes.data(), row, reinterpret_cast<uint32_t*>(stored.data()));
  levels_of(row, stored.data(), count);
  spread(row, stored.data(), levels, mask);
}

}  // namespace usmlite::codec
