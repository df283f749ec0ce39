#include "codec/scale_rule.hpp"

#include <algorithm>
#include <cmath>

namespace usmlite::codec {
namespace {

struct Mean {
  double sum = 0.0;
  int64_t count = 0;
  void add(double x) { sum += x, ++count; }
  float value() const { return count ? static_cast<float>(sum / static_cast<double>(count)) : 0.0f; }
};

template <typename Measure>
float mean_of(const float* weights, const uint8_t* mask, int64_t count, Measure&& measure) {
  Mean mean;
  for (int64_t i = 0; i < count; ++i) {
    if (!mask || mask[i]) measure(weights[i], mean);
  }
  return mean.value();
}

float mean_magnitude(const float* weights, const uint8_t* mask, int64_t count) {
  return mean_of(weights, mask, count, [](float w, Mean& mean) { mean.add(std::fabs(w)); });
}

float mean_weight(const float* weights, const uint8_t* mask, int64_t count) {
  return mean_of(weights, mask, count, [](float w, Mean& mean) { mean.add(w); });
}

float statistic_of(const WeightSpec& spec, const ScaleRule& rule, const float* weights, const uint8_t* mask, int64_t count) {
  switch (rule.statistic) {
    case ScaleStatistic::kMean: return mean_magnitude(weights, mask, count);
    case ScaleStatistic::kThreshold: {
      const float threshold = rounding_threshold(Rounding::kThreshold, weights, mask, count);
      return mean_of(weights, mask, count, [&](float w, Mean& mean) {
        if (std::fabs(w) > threshold) mean.add(std::fabs(w));
      });
    }
    case ScaleStatistic::kCentred: {
      const float centre = mean_weight(weights, mask, count);
      return mean_of(weights, mask, count, [&](float w, Mean& mean) { mean.add(std::fabs(w - centre)); });
    }
    default: break;
  }
  float largest = 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    if (!mask || mask[i]) largest = std::max(largest, std::fabs(weights[i]));
  }
  const float edge = rule.statistic == ScaleStatistic::kEdge ? outer_half(spec) : 0.0f;
  return largest / (static_cast<float>(spec.highest_level()) + edge);
}

// Nearest by logarithm; an exponent below that of the least normal number is not worth having.
float nearest_power_of_two(float scale) { return std::exp2(std::max(std::nearbyint(std::log2(scale)), -126.0f)); }

// The range times `clip`, from its least value on: zero stays where it is.
GroupScale clipped_range(const WeightSpec& spec, const ScaleRule& rule, const float* weights, const uint8_t* mask, int64_t count) {
  const GroupScale whole = group_scale(spec, weights, mask, count);
  if (whole.constant) return whole;
  const float edge = rule.statistic == ScaleStatistic::kEdge ? outer_half(spec) : 0.0f;
  const float levels = static_cast<float>(spec.highest_level());
  const float least = (0.0f - whole.zero_point) * whole.scale * rule.clip;
  float scale = whole.scale * levels / (levels + 2.0f * edge) * rule.clip;
  if (rule.power_of_two && scale > 0.0f) scale = nearest_power_of_two(scale);
  if (scale == 0.0f || !std::isfinite(least / scale)) return whole;
  return {scale, 0.0f - least / scale - edge, false};
}

}  // namespace

GroupScale group_scale(const WeightSpec& spec, const ScaleRule& rule, const float* weights, const uint8_t* mask, int64_t count) {
  const bool plain = rule.clip == 1.0f && !rule.power_of_two;
  if (rule.statistic == ScaleStatistic::kFormat && plain) return group_scale(spec, weights, mask, count);
  if (spec.has_zero_points()) return clipped_range(spec, rule, weights, mask, count);
  if (rule.statistic != ScaleStatistic::kFormat) return with_choices(rule, statistic_of(spec, rule, weights, mask, count));
  const GroupScale whole = group_scale(spec, weights, mask, count);
  return whole.constant ? whole : with_choices(rule, whole.scale);
}

GroupScale with_choices(const ScaleRule& rule, float measured) {
  const float clipped = measured * rule.clip;
  if (clipped == 0.0f) return {1.0f, 0.0f, true};
  return {rule.power_of_two ? nearest_power_of_two(clipped) : clipped, 0.0f, false};
}

float rounding_threshold(Rounding rounding, const float* weights, const uint8_t* mask, int64_t count) {
  if (rounding == Rounding::kThreshold) return kTernaryThreshold * mean_magnitude(weights, mask, count);
  return rounding == Rounding::kCentred ? mean_weight(weights, mask, count) : 0.0f;
}

}  // namespace usmlite::codec
