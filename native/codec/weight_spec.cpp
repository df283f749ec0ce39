#include "codec/weight_spec.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "core/error.hpp"

namespace usmlite::codec {
namespace {

constexpr int kMaximumGroup = 16;  // M of N:M: a mask has at most 16 bits

// Formats that come in several widths.
constexpr std::pair<std::string_view, NumberFormat> kFamilies[] = {
    {"int", NumberFormat::kSymmetric}, {"uint", NumberFormat::kAsymmetric}, {"midrise", NumberFormat::kMidRise}};

constexpr std::string_view kDoubleQuantized = "/dq";

std::string quoted(std::string_view text) {
  std::string result(1, '"');
  result += text;
  result += '"';
  return result;
}

[[noreturn]] void fail(const std::string& text, const std::string& problem) {
  throw Error(error_code::kUnsupportedSpec,
              "weight spec " + quoted(text) + ": " + problem +
                  "; write float32, intB, uintB or midriseB with B of 2, 3, 4, 5, 6 or 8 bits, int1, ternary or nf4, then "
                  "for all but float32 optionally /g32, /g64 or /g128, then for all but uintB optionally /dq, then optionally "
                  "+N:M with 1 <= N < M <= 16, "
                  "for example int4+2:4");
}

// A number without sign or leading zeros; -1 when `text` is anything else.
int whole_number(std::string_view text) {
  int value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool plain = !text.empty() && text.size() <= 3 && text[0] >= '1' && text[0] <= '9';
  return plain && error == std::errc() && end == text.data() + text.size() ? value : -1;
}

void parse_format(const std::string& text, std::string_view part, WeightSpec& spec) {
  if (part == "float32") return;
  const auto set = [&](NumberFormat format, int bits) {
    spec.format = format;
    spec.bits = bits;
  };
  if (part == "ternary") return set(NumberFormat::kTernary, 2);
  if (part == "nf4") return set(NumberFormat::kNormalFloat4, 4);
  if (part == "int1") return set(NumberFormat::kMidRise, 1);
  for (const auto& [name, format] : kFamilies) {
    if (!part.starts_with(name)) continue;
    const int bits = whole_number(part.substr(name.size()));
    if ((bits >= 2 && bits <= 6) || bits == 8) return set(format, bits);
  }
  fail(text, quoted(part) + " is not a number format");
}

void parse_sparsity(const std::string& text, std::string_view part, WeightSpec& spec) {
  const size_t colon = part.find(':');
  spec.kept = whole_number(part.substr(0, colon));
  spec.of = colon == std::string_view::npos ? -1 : whole_number(part.substr(colon + 1));
  if (spec.kept < 1 || spec.of <= spec.kept || spec.of > kMaximumGroup) {
    fail(text, quoted(part) + " is not a sparsity N:M");
  }
}

}  // namespace

uint32_t WeightSpec::raw(int32_t level) const {
  switch (format) {
    case NumberFormat::kSymmetric: return static_cast<uint32_t>(level + (1 << (bits - 1)));
    case NumberFormat::kMidRise: return static_cast<uint32_t>(level + highest_level()) / 2;
    case NumberFormat::kTernary: return static_cast<uint32_t>(level + 1);
    case NumberFormat::kNormalFloat4:
      return static_cast<uint32_t>(std::ranges::lower_bound(kNormalFloat4Levels, level) - kNormalFloat4Levels.begin());
    default: return static_cast<uint32_t>(level);
  }
}

WeightSpec parse_weight_spec(const std::string& text) {
  WeightSpec spec;
  std::string_view rest = text;
  if (rest.find(':') != std::string_view::npos && rest.find('+') == std::string_view::npos) {
    parse_sparsity(text, rest, spec);
    return spec;
  }
  if (const size_t plus = rest.find('+'); plus != std::string_view::npos) {
    parse_sparsity(text, rest.substr(plus + 1), spec);
    rest = rest.substr(0, plus);
  }
  std::string_view group;
  const size_t slash = rest.find('/');
  const bool grouped = slash != std::string_view::npos;
  if (grouped) {
    group = rest.substr(slash + 1);
    rest = rest.substr(0, slash);
    spec.double_quantized = group.ends_with(kDoubleQuantized);
    if (spec.double_quantized) group.remove_suffix(kDoubleQuantized.size());
  }
  parse_format(text, rest, spec);
  if (grouped) {
    if (!spec.is_integer()) fail(text, "float32 has no scales, so no group size");
    if (group == "g32") spec.group_size = 32;
    else if (group == "g64") spec.group_size = 64;
    else if (group == "g128") spec.group_size = 128;
    else fail(text, quoted(group) + " is not a group size");
    if (spec.double_quantized && spec.has_zero_points()) fail(text, "the scales of formats with zero points are not quantized");
  }
  return spec;
}

std::string format_text(const WeightSpec& spec) {
  switch (spec.format) {
    case NumberFormat::kFloat32: return "float32";
    case NumberFormat::kTernary: return "ternary";
    case NumberFormat::kNormalFloat4: return "nf4";
    default: break;
  }
  if (spec.format == NumberFormat::kMidRise && spec.bits == 1) return "int1";
  for (const auto& [name, format] : kFamilies) {
    if (format == spec.format) return std::string(name) + std::to_string(spec.bits);
  }
  return {};
}

std::string to_text(const WeightSpec& spec) {
  std::string text = format_text(spec);
  if (spec.group_size) text.append("/g").append(std::to_string(spec.group_size));
  if (spec.double_quantized) text.append(kDoubleQuantized);
  if (spec.is_sparse()) text.append("+").append(std::to_string(spec.kept)).append(":").append(std::to_string(spec.of));
  return text;
}

}  // namespace usmlite::codec
