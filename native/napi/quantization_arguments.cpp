#include "napi/quantization_arguments.hpp"

namespace usmlite::binding {

using codec::Rounding;
using codec::ScaleStatistic;

ScaleStatistic statistic_argument(const Arguments& arguments, size_t index, const codec::WeightSpec& spec) {
  static const std::map<std::string, ScaleStatistic> statistics = {
      {"format", ScaleStatistic::kFormat}, {"maximum", ScaleStatistic::kMaximum},     {"edge", ScaleStatistic::kEdge},
      {"mean", ScaleStatistic::kMean},     {"threshold", ScaleStatistic::kThreshold}, {"centred", ScaleStatistic::kCentred}};
  const ScaleStatistic statistic = choice(arguments, index, "statistic", statistics);
  const std::string text = codec::format_text(spec);
  const bool mean = statistic == ScaleStatistic::kMean || statistic == ScaleStatistic::kThreshold || statistic == ScaleStatistic::kCentred;
  if (mean && spec.has_zero_points()) arguments.fail("the scale of " + text + " is measured by the range, not by a mean");
  if (statistic == ScaleStatistic::kThreshold && text != "ternary") arguments.fail("threshold is for ternary, not for " + text);
  if (statistic == ScaleStatistic::kCentred && text != "int1") arguments.fail("centred is for int1, not for " + text);
  return statistic;
}

codec::ScaleRule scale_rule(const Arguments& arguments, size_t first, const codec::WeightSpec& spec) {
  codec::ScaleRule rule;
  rule.statistic = statistic_argument(arguments, first, spec);
  rule.clip = static_cast<float>(arguments.number(first + 1, "clip", 0.01, 100.0));
  rule.power_of_two = arguments.boolean(first + 2, "powerOfTwo");
  rule.search_steps = static_cast<int>(arguments.integer(first + 3, "searchSteps", 0, 1000));
  rule.search_lowest = static_cast<float>(arguments.number(first + 4, "searchLowest", 0.01, 1.0));
  return rule;
}

Rounding rounding_argument(const Arguments& arguments, size_t index, const codec::WeightSpec& spec) {
  static const std::map<std::string, Rounding> roundings = {{"nearest", Rounding::kNearest},
                                                            {"stochastic", Rounding::kStochastic},
                                                            {"noise", Rounding::kNoise},
                                                            {"threshold", Rounding::kThreshold},
                                                            {"centred", Rounding::kCentred}};
  const Rounding rounding = choice(arguments, index, "rounding", roundings);
  if (rounding == Rounding::kStochastic && spec.format == codec::NumberFormat::kNormalFloat4) {
    arguments.fail("nf4 is rounded to the nearest level or not at all, never stochastically");
  }
  return rounding;
}

void check_zero_points(const Arguments& arguments, const codec::WeightSpec& spec, bool given) {
  const bool has = spec.has_zero_points();
  if (given != has) arguments.fail(codec::to_text(spec) + (has ? " needs zero points beside its scales" : " has no zero points"));
}

}  // namespace usmlite::binding
