// How weights are quantized in training, among the arguments of a binding.
#pragma once
#include <map>
#include <string>

#include "codec/scale_rule.hpp"
#include "napi/arguments.hpp"

namespace usmlite::binding {

template <typename Value>
Value choice(const Arguments& arguments, size_t index, const char* name, const std::map<std::string, Value>& values) {
  const auto entry = values.find(arguments.text(index, name));
  if (entry != values.end()) return entry->second;
  std::string known;
  for (const auto& [text, _] : values) known.append(known.empty() ? "" : ", ").append(text);
  arguments.fail(arguments.text(index, name).insert(0, 1, '"') + "\" is no " + name + "; these are: " + known);
}

/// What a scale is measured by, of those that the format has.
codec::ScaleStatistic statistic_argument(const Arguments& arguments, size_t index, const codec::WeightSpec& spec);

/// statistic, clip, powerOfTwo, searchSteps, searchLowest
codec::ScaleRule scale_rule(const Arguments& arguments, size_t first, const codec::WeightSpec& spec);

codec::Rounding rounding_argument(const Arguments& arguments, size_t index, const codec::WeightSpec& spec);

/// Whether zero points come along with scales where, and only where, the format has them.
void check_zero_points(const Arguments& arguments, const codec::WeightSpec& spec, bool given);

}  // namespace usmlite::binding
