#include "cpu/fake_quantize.hpp"

#include <algorithm>
#include <cmath>

#include "codec/double_quantization.hpp"
#include "core/random.hpp"
#include "cpu/scale_search.hpp"

namespace usmlite::cpu::reference {
namespace {

using codec::Rounding;

bool kept(const WeightGroups& w, int64_t i) { return !w.mask || w.mask[i]; }

// Calls body(index, begin, count) for every scale group.
template <typename Body>
void for_each_group(const WeightGroups& w, Body&& body) {
  int64_t index = 0;
  for (int64_t row = 0; row < w.rows; ++row) {
    for (int64_t column = 0; column < w.columns; column += w.group()) {
      body(index++, row * w.columns + column, std::min(w.group(), w.columns - column));
    }
  }
}

float level_of(const FakeQuantization& q, int64_t i, const codec::GroupScale& group, float threshold) {
  const float weight = q.weight[i];
  if (q.rounding == Rounding::kThreshold) return weight > threshold ? 1.0f : weight < -threshold ? -1.0f : 0.0f;
  if (q.rounding == Rounding::kCentred) return weight > threshold ? 1.0f : -1.0f;
  if (q.rounding == Rounding::kNearest) return codec::nearest_level(q.spec, weight, group);
  const float ratio = weight / group.scale, uniform = random_uniform(q.seed, static_cast<uint64_t>(i));
  const bool odd = q.spec.format == codec::NumberFormat::kMidRise;
  const float level = odd ? 2.0f * std::floor((ratio - 1.0f) * 0.5f + uniform) + 1.0f : std::floor(ratio + group.zero_point + uniform);
  return std::clamp(level, static_cast<float>(q.spec.lowest_level()), static_cast<float>(q.spec.highest_level()));
}

// Pseudo-quantization noise, in scales.
float noise_of(const FakeQuantization& q, int64_t i) {
  return (random_uniform(q.seed, static_cast<uint64_t>(i)) - 0.5f) * codec::level_distance(q.spec);
}

float threshold_of(const FakeQuantization& q, int64_t begin, int64_t count) {
  return codec::rounding_threshold(q.rounding, q.weight + begin, q.mask ? q.mask + begin : nullptr, count);
}

ScaleGroup group_at(const WeightGroups& w, int64_t begin, int64_t count) {
  return {w.weight + begin, w.mask ? w.mask + begin : nullptr, nullptr, count};
}

}  // namespace

void group_scales(const WeightGroups& w, const codec::ScaleRule& rule, float* scale, float* zero_point) {
  for_each_group(w, [&](int64_t index, int64_t begin, int64_t count) {
    const codec::GroupScale best = searched_scale(
        rule, [&](const codec::ScaleRule& clipped) { return codec::group_scale(w.spec, clipped, w.weight + begin, w.mask ? w.mask + begin : nullptr, count); },
        [&](const codec::GroupScale& tried) { return rounding_error(w.spec, group_at(w, begin, count), tried); });
    scale[index] = best.scale;
    if (zero_point) zero_point[index] = best.zero_point;
  });
  codec::replace_unmeasured_scales(w.spec, w.weight, w.mask, w.rows, w.columns, scale);
}

void fake_quantize(const FakeQuantization& q, float* output) {
  for_each_group(q, [&](int64_t index, int64_t begin, int64_t count) {
    const codec::GroupScale group = q.group_scale(index);
    const float threshold = threshold_of(q, begin, count);
    for (int64_t i = begin; i < begin + count; ++i) {
      const float weight = q.rounding == Rounding::kNoise ? q.weight[i] + noise_of(q, i) * group.scale
                                                          : (level_of(q, i, group, threshold) - group.zero_point) * group.scale;
      output[i] = kept(q, i) ? weight + 0.0f : 0.0f;  // + 0: levels have no -0
    }
  });
}

void fake_quantize_backward(const FakeQuantization& q, const float* output_gradient, const GradientChoices& choices,
                            const FakeQuantizationGradients& gradients) {
  const float half = codec::outer_half(q.spec);
  const float low = static_cast<float>(q.spec.lowest_level()) - half, high = static_cast<float>(q.spec.highest_level()) + half;
  for_each_group(q, [&](int64_t index, int64_t begin, int64_t count) {
    const codec::GroupScale group = q.group_scale(index);
    const float threshold = threshold_of(q, begin, count);
    float scale_sum = 0.0f, zero_point_sum = 0.0f;
    for (int64_t i = begin; i < begin + count; ++i) {
      const float gradient = output_gradient[i], kept_gradient = kept(q, i) ? gradient : 0.0f;
      const float ratio = q.weight[i] / group.scale, place = ratio + group.zero_point;
      const bool noise = q.rounding == Rounding::kNoise, beyond = choices.clipped && !noise && (place > high || place < low);
      const float level = noise ? noise_of(q, i) + place : level_of(q, i, group, threshold);
      scale_sum += kept_gradient * (level - group.zero_point - (beyond ? 0.0f : ratio));
      zero_point_sum -= beyond ? kept_gradient * group.scale : 0.0f;
      gradients.weight[i] = beyond ? 0.0f : choices.through_mask ? gradient : kept_gradient;
    }
    gradients.scale[index] = scale_sum;
    if (gradients.zero_point) gradients.zero_point[index] = zero_point_sum;
  });
}

void apply_mask(const float* x, const uint8_t* mask, float pruned, float* output, int64_t count) {
  for (int64_t i = 0; i < count; ++i) output[i] = (mask[i] ? x[i] : pruned * x[i]) + 0.0f;  // no -0
}

}  // namespace usmlite::cpu::reference
