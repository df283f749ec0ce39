// Scales that lose least: narrower ranges than the largest weight asks for, where rounding the others finer is worth it.
#pragma once
#include <array>
#include <cstdint>

#include "codec/quantize.hpp"
#include "codec/scale_rule.hpp"
#include "core/instruction_set.hpp"

namespace usmlite::cpu {

/// Weights that share a scale. `mask` and `importance` may be null: all are kept, all count alike.
struct ScaleGroup {
  const float* weights;
  const uint8_t* mask;
  const float* importance;
  int64_t count;
};

/// Of `first` and the `count` scales that `candidate(i)` gives that with the least `error(scale)`, the earliest of equal ones.
template <typename Candidate, typename Error>
codec::GroupScale least_error(const codec::GroupScale& first, int count, Candidate&& candidate, Error&& error) {
  codec::GroupScale best = first;
  auto least = error(first);
  for (int i = 0; i < count; ++i) {
    const codec::GroupScale tried = candidate(i);
    if (!(tried.scale > 0.0f)) continue;
    const auto its_error = error(tried);
    if (its_error < least) least = its_error, best = tried;
  }
  return best;
}

/// The scale that `rule` asks for: that which `scale_of(rule)` gives, or of those with other values of `clip` the one of least error.
template <typename ScaleOf, typename Error>
codec::GroupScale searched_scale(const codec::ScaleRule& rule, ScaleOf&& scale_of, Error&& error) {
  const codec::GroupScale first = scale_of(rule);
  if (rule.search_steps == 0) return first;
  return least_error(first, rule.search_steps, [&](int step) {
    codec::ScaleRule clipped = rule;
    clipped.clip = codec::searched_clip(rule, step);
    return scale_of(clipped);
  }, error);
}

/// The factors of the format's own scale that are tried, 1 first. A scale that follows from the largest weight is too
/// large if anything, one that follows from the mean may be either.
inline std::array<float, 41> scale_factors(const codec::WeightSpec& spec) {
  const bool by_mean = spec.format == codec::NumberFormat::kTernary || spec.bits == 1;
  std::array<float, 41> factors;
  for (size_t i = 0; i < factors.size(); ++i) {
    factors[i] = by_mean ? (i == 0 ? 1.0f : 0.45f + 0.05f * static_cast<float>(i)) : 1.0f - 0.02f * static_cast<float>(i);
  }
  return factors;
}

/// `group` with its scale multiplied by `factor`: a narrower range around zero, whose zero point stays.
inline codec::GroupScale scaled(const codec::GroupScale& group, float factor) {
  return {group.scale * factor, group.zero_point, group.constant};
}

USMLITE_FOR_EACH_ISA(
  // Sum of importance * (weight - rounded)^2 over the kept weights.
  float rounding_error(const codec::WeightSpec& spec, const ScaleGroup& group, const codec::GroupScale& tried);
  // Of codec::group_scale times each of scale_factors() the one with the least sum of importance * (weight - rounded)^2
  // over the kept weights; the earlier of two equal ones. Where nothing can be gained it is codec::group_scale itself.
  codec::GroupScale search_scale(const codec::WeightSpec& spec, const ScaleGroup& group);
)
USMLITE_DISPATCH(search_scale)

}  // namespace usmlite::cpu
