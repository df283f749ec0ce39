#include "codec/pack.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "codec/bit_stream.hpp"
#include "core/error.hpp"

namespace usmlite::codec {
namespace {

constexpr int64_t kWordBits = 32;

MaskStream mask_stream(const WeightSpec& spec) { return spec.is_sparse() ? MaskStream(spec.kept, spec.of) : MaskStream(1, 2); }

// Codes are stored as unsigned numbers, the most negative two's-complement code as zero; float32 as its bits.
uint32_t offset_of(const WeightSpec& spec) { return spec.is_integer() ? 1u << (spec.bits - 1) : 0u; }

void check_size(const char* part, size_t actual, int64_t expected, const PackedLayout& layout) {
  if (static_cast<int64_t>(actual) == expected) return;
  throw Error(error_code::kBadCheckpoint, std::string(part) + " has " + std::to_string(actual) + " bytes; " +
                                              to_text(layout.spec) + " of (" + std::to_string(layout.rows) + ", " +
                                              std::to_string(layout.columns) + ") needs " + std::to_string(expected));
}

}  // namespace

PackedLayout::PackedLayout(const WeightSpec& spec, int64_t rows, int64_t columns)
    : spec(spec), rows(rows), columns(columns) {
  row_bits = spec.codes_per_row(columns) * spec.bits;
  if (!spec.is_sparse()) row_bits = (row_bits + kWordBits - 1) / kWordBits * kWordBits;
  code_bytes = (rows * row_bits + 7) / 8;
  scale_count = rows * spec.scales_per_row(columns);
  mask_bytes = spec.is_sparse() ? mask_stream(spec).bytes(rows * spec.groups_per_row(columns)) : 0;
}

Packer::Packer(const PackedLayout& layout, PackedParts<uint8_t, float> parts)
    : layout_(layout), parts_(parts), masks_(mask_stream(layout.spec)) {}

void Packer::pack_row(int64_t row, const int32_t* codes, const float* scales, const uint8_t* mask) {
  const WeightSpec& spec = layout_.spec;
  const int64_t columns = layout_.columns;
  std::copy_n(scales, spec.scales_per_row(columns), parts_.scales.data() + row * spec.scales_per_row(columns));
  int64_t position = row * layout_.row_bits;
  const auto append = [&](int32_t code) {
    write_bits(parts_.codes.data(), position, spec.bits, static_cast<uint32_t>(code) + offset_of(spec));
    position += spec.bits;
  };
  if (!spec.is_sparse()) {
    for (int64_t i = 0; i < columns; ++i) append(codes[i]);
    return;
  }
  const int64_t groups = spec.groups_per_row(columns);
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t begin = group * spec.of;
    uint32_t kept = 0;
    for (int i = 0; i < spec.of && begin + i < columns; ++i) kept |= (mask[begin + i] ? 1u : 0u) << i;
    if (std::popcount(kept) > spec.kept) {
      throw Error(error_code::kInvalidArgument,
                  "the mask keeps " + std::to_string(std::popcount(kept)) + " of the " + std::to_string(spec.of) +
                      " inputs from " + std::to_string(begin) + " on; " + to_text(spec) + " keeps at most " +
                      std::to_string(spec.kept));
    }
    while (std::popcount(kept) < spec.kept) kept |= kept + 1;  // sets the lowest clear bit
    masks_.write(parts_.mask.data(), row * groups + group, kept);
    for (int i = 0; i < spec.of; ++i) {
      if (kept >> i & 1) append(begin + i < columns ? codes[begin + i] : 0);
    }
  }
}

Unpacker::Unpacker(const PackedLayout& layout, PackedParts<const uint8_t, const float> parts)
    : layout_(layout), parts_(parts), masks_(mask_stream(layout.spec)),
      scales_per_row_(layout.spec.scales_per_row(layout.columns)) {
  check_size("weight_packed", parts.codes.size(), layout.code_bytes, layout);
  check_size("weight_scale", parts.scales.size_bytes(), layout.scale_count * 4, layout);
  check_size("weight_mask", parts.mask.size(), layout.mask_bytes, layout);
  for (float scale : parts.scales) {
    if (!(std::isfinite(scale) && scale > 0.0f)) {
      throw Error(error_code::kBadCheckpoint,
                  "weight_scale holds " + std::to_string(scale) + "; scales are positive, finite numbers");
    }
  }
}

int32_t Unpacker::read_code(int64_t row, int64_t position) const {
  const WeightSpec& spec = layout_.spec;
  const uint32_t raw = read_bits(parts_.codes.data(), layout_.code_bytes, position, spec.bits);
  const int32_t code = static_cast<int32_t>(raw - offset_of(spec));
  const bool valid = spec.is_integer() ? code >= -spec.maximum_code() : std::isfinite(std::bit_cast<float>(code));
  if (!valid) {
    throw Error(error_code::kBadCheckpoint,
                "weight_packed, row " + std::to_string(row) + ": " +
                    (spec.is_integer() ? "code " + std::to_string(code) + " is outside +-" + std::to_string(spec.maximum_code())
                                       : std::string("a weight is NaN or infinite")));
  }
  return code;
}

void Unpacker::unpack_row(int64_t row, int32_t* codes, uint8_t* mask) const {
  const WeightSpec& spec = layout_.spec;
  const int64_t columns = layout_.columns;
  int64_t position = row * layout_.row_bits;
  if (!spec.is_sparse()) {
    for (int64_t i = 0; i < columns; ++i, position += spec.bits) codes[i] = read_code(row, position);
    if (mask) std::fill_n(mask, columns, uint8_t{1});
    return;
  }
  std::fill_n(codes, columns, 0);
  if (mask) std::fill_n(mask, columns, uint8_t{0});
  const int64_t groups = spec.groups_per_row(columns);
  for (int64_t group = 0; group < groups; ++group) {
    uint32_t kept = masks_.read(parts_.mask.data(), layout_.mask_bytes, row * groups + group);
    for (; kept; kept &= kept - 1, position += spec.bits) {
      const int64_t column = group * spec.of + std::countr_zero(kept);
      const int32_t code = read_code(row, position);
      if (column < columns) {
        codes[column] = code;
        if (mask) mask[column] = 1;
      } else if (code != 0) {
        throw Error(error_code::kBadCheckpoint, "weight_packed, row " + std::to_string(row) +
                                                    ": a weight beyond the last of " + std::to_string(columns) +
                                                    " inputs is not zero");
      }
    }
  }
}

}  // namespace usmlite::codec
