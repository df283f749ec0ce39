// How the scale of a group of weights is found: the choices that training and calibration have.
#pragma once
#include <cmath>
#include <cstdint>

#include "codec/quantize.hpp"
#include "codec/weight_spec.hpp"

namespace usmlite::codec {

/// What is measured of the kept weights of a group.
enum class ScaleStatistic {
  kFormat,     // group_scale: max |w|, mean |w| or the range, as the format has it
  kMaximum,    // max |w| (or the range) over the highest level, the rule of google/praxis, for every format
  kEdge,       // max |w| at the far edge of the last level's interval, the rule of google/aqt
  kMean,       // mean |w|, for every format without zero points
  kThreshold,  // ternary: mean |w| of those above 0.7 mean |w| (ternary weight networks, arXiv 1605.04711)
  kCentred,    // int1: mean |w - mean w|
};

struct ScaleRule {
  ScaleStatistic statistic = ScaleStatistic::kFormat;
  float clip = 1.0f;          // what is measured is multiplied by this
  bool power_of_two = false;  // the scale becomes the nearest power of two, by logarithm
  int search_steps = 0;       // above 0: of so many values of `clip`, evenly from 1 down to `search_lowest`, that with the
  float search_lowest = 0.3f; // least squared error
};

/// How weights become levels, where that is not to the nearest one.
enum class Rounding {
  kNearest,
  kStochastic,  // up or down, with the chances that make the expectation right
  kNoise,       // not at all: uniform noise as wide as the distance of levels is added (pseudo-quantization noise)
  kThreshold,   // ternary: 0 up to 0.7 mean |w|
  kCentred,     // int1: 1 above mean w
};

/// The share of mean |w| that ternary weight networks take for zero.
inline constexpr float kTernaryThreshold = 0.7f;

/// The distance between neighbouring levels; nf4: the mean one.
inline float level_distance(const WeightSpec& spec) {
  if (spec.format == NumberFormat::kNormalFloat4) return 254.0f / 15.0f;
  return spec.format == NumberFormat::kMidRise ? 2.0f : 1.0f;
}

/// Half of level_distance where weights beyond the outermost levels still round to them; nf4: 0.
inline float outer_half(const WeightSpec& spec) {
  return spec.format == NumberFormat::kNormalFloat4 ? 0.0f : 0.5f * level_distance(spec);
}

/// Scale and zero point of a group by `rule`, without its search. `mask` may be null: all are kept.
GroupScale group_scale(const WeightSpec& spec, const ScaleRule& rule, const float* weights, const uint8_t* mask, int64_t count);

/// The scale made of what was measured (already over the highest level): clipped, perhaps a power of two; 1 where it is 0.
GroupScale with_choices(const ScaleRule& rule, float measured);

/// What a weight must exceed in kThreshold (its magnitude) and kCentred.
float rounding_threshold(Rounding rounding, const float* weights, const uint8_t* mask, int64_t count);

/// The place of value `step` of `steps` in a search: 1 at step 0.
inline float searched_clip(const ScaleRule& rule, int step) {
  const float share = rule.search_steps > 1 ? static_cast<float>(step) / static_cast<float>(rule.search_steps - 1) : 0.0f;
  return std::fma(-share, 1.0f - rule.search_lowest, 1.0f);  // rounded once by every processor, whether its compiler would fuse or not
}

}  // namespace usmlite::codec
