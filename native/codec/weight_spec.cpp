#include "codec/weight_spec.hpp"

#include <charconv>
#include <string_view>

#include "core/error.hpp"

namespace usmlite::codec {
namespace {

constexpr int kMaximumGroup = 16;  // M of N:M: a mask has at most 16 bits

std::string quoted(std::string_view text) {
  std::string result(1, '"');
  result += text;
  result += '"';
  return result;
}

[[noreturn]] void fail(const std::string& text, const std::string& problem) {
  throw Error(error_code::kUnsupportedSpec,
              "weight spec " + quoted(text) + ": " + problem +
                  "; write float32, int8, int4, int3 or int2, then for integers optionally /g32, /g64 or /g128, then "
                  "optionally +N:M with 1 <= N < M <= 16, for example int4+2:4");
}

// A number without sign or leading zeros; -1 when `text` is anything else.
int whole_number(std::string_view text) {
  int value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool plain = !text.empty() && text.size() <= 3 && text[0] >= '1' && text[0] <= '9';
  return plain && error == std::errc() && end == text.data() + text.size() ? value : -1;
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
  }
  if (rest == "int8") spec.bits = 8;
  else if (rest == "int4") spec.bits = 4;
  else if (rest == "int3") spec.bits = 3;
  else if (rest == "int2") spec.bits = 2;
  else if (rest != "float32") fail(text, quoted(rest) + " is not a number format");
  if (grouped) {
    if (!spec.is_integer()) fail(text, "float32 has no scales, so no group size");
    if (group == "g32") spec.group_size = 32;
    else if (group == "g64") spec.group_size = 64;
    else if (group == "g128") spec.group_size = 128;
    else fail(text, quoted(group) + " is not a group size");
  }
  return spec;
}

std::string to_text(const WeightSpec& spec) {
  std::string text(spec.is_integer() ? "int" : "float32");
  if (spec.is_integer()) text += std::to_string(spec.bits);
  if (spec.group_size) text.append("/g").append(std::to_string(spec.group_size));
  if (spec.is_sparse()) text.append("+").append(std::to_string(spec.kept)).append(":").append(std::to_string(spec.of));
  return text;
}

}  // namespace usmlite::codec
