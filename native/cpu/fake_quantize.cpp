#include "cpu/fake_quantize.hpp"

#include <algorithm>

#include "codec/double_quantization.hpp"
#include "core/random.hpp"
#include "core/thread_pool.hpp"
#include "cpu/nearest_level.hpp"
#include "cpu/scale_search.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

using codec::Rounding;
using codec::ScaleStatistic;

constexpr int64_t kWeightGrain = 16384;  // weights per thread below which waking one costs more than it saves

// 1 where the mask is set, 0 elsewhere.
Vector load_mask(const uint8_t* mask, int64_t lanes) { return minimum(Vector::load_bytes(mask, lanes), Vector::all(1.0f)); }

Vector masked(const WeightGroups& w, const float* x, int64_t at, int64_t lanes) {
  const Vector value = Vector::load(x + at, lanes);
  return w.mask ? value * load_mask(w.mask + at, lanes) : value;
}

float largest_magnitude(const WeightGroups& w, int64_t begin, int64_t count) {
  Vector largest = Vector::zero();
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    largest = maximum(largest, absolute(masked(w, w.weight, begin + i, lanes)));
  });
  return largest.maximum();
}

Vector floor_of(Vector x) {
  const Vector nearest = round(x);
  return select_greater(nearest, x, nearest - Vector::all(1.0f), nearest);
}

Vector within(const codec::WeightSpec& spec, Vector level) {
  return maximum(minimum(level, Vector::all(static_cast<float>(spec.highest_level()))),
                 Vector::all(static_cast<float>(spec.lowest_level())));
}

// Uniform numbers in [0, 1) for the weights from `at` on.
Vector uniform_numbers(uint64_t seed, int64_t at, int64_t lanes) {
  float numbers[Vector::kLanes];
  for (int64_t lane = 0; lane < lanes; ++lane) numbers[lane] = random_uniform(seed, static_cast<uint64_t>(at + lane));
  return Vector::load(numbers, lanes);
}

// Pseudo-quantization noise, in scales.
Vector noise_of(const FakeQuantization& q, int64_t at, int64_t lanes) {
  return (uniform_numbers(q.seed, at, lanes) - Vector::all(0.5f)) * Vector::all(codec::level_distance(q.spec));
}

Vector level_of(const FakeQuantization& q, int64_t at, int64_t lanes, const codec::GroupScale& group, float threshold) {
  const Vector weight = Vector::load(q.weight + at, lanes);
  if (q.rounding == Rounding::kNearest) return nearest_level(q.spec, weight, group);
  const Vector limit = Vector::all(threshold), one = Vector::all(1.0f), minus_one = Vector::all(-1.0f);
  if (q.rounding == Rounding::kCentred) return select_greater(weight, limit, one, minus_one);
  if (q.rounding == Rounding::kThreshold) {
    return select_greater(weight, limit, one, select_greater(Vector::zero() - limit, weight, minus_one, Vector::zero()));
  }
  const Vector ratio = weight / Vector::all(group.scale), uniform = uniform_numbers(q.seed, at, lanes);
  if (q.spec.format == codec::NumberFormat::kMidRise) {
    return within(q.spec, Vector::all(2.0f) * floor_of((ratio - one) * Vector::all(0.5f) + uniform) + one);
  }
  return within(q.spec, floor_of(ratio + Vector::all(group.zero_point) + uniform));
}

float threshold_of(const FakeQuantization& q, int64_t begin, int64_t count) {
  if (q.rounding != Rounding::kThreshold && q.rounding != Rounding::kCentred) return 0.0f;
  return codec::rounding_threshold(q.rounding, q.weight + begin, q.mask ? q.mask + begin : nullptr, count);
}

// codec::group_scale, the common cases with vectors.
codec::GroupScale group_scale(const WeightGroups& w, const codec::ScaleRule& rule, int64_t begin, int64_t count) {
  const auto format = w.spec.format;
  const bool by_maximum = rule.statistic == ScaleStatistic::kMaximum || rule.statistic == ScaleStatistic::kEdge ||
                          (rule.statistic == ScaleStatistic::kFormat && format == codec::NumberFormat::kSymmetric);
  if (!by_maximum || w.spec.has_zero_points()) {
    return codec::group_scale(w.spec, rule, w.weight + begin, w.mask ? w.mask + begin : nullptr, count);
  }
  const float edge = rule.statistic == ScaleStatistic::kEdge ? codec::outer_half(w.spec) : 0.0f;
  return codec::with_choices(rule, largest_magnitude(w, begin, count) / (static_cast<float>(w.spec.highest_level()) + edge));
}

ScaleGroup group_at(const WeightGroups& w, int64_t begin, int64_t count) {
  return {w.weight + begin, w.mask ? w.mask + begin : nullptr, nullptr, count};
}

// Calls body(index, begin, count) for every scale group, rows spread over threads.
template <typename Body>
void for_each_group(const WeightGroups& w, Body&& body) {
  const int64_t per_row = w.groups_per_row();
  parallel_for(w.rows, std::max<int64_t>(kWeightGrain / std::max<int64_t>(w.columns, 1), 1), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      int64_t index = row * per_row;
      for (int64_t column = 0; column < w.columns; column += w.group()) {
        body(index++, row * w.columns + column, std::min(w.group(), w.columns - column));
      }
    }
  });
}

}  // namespace

void group_scales(const WeightGroups& w, const codec::ScaleRule& rule, float* scale, float* zero_point) {
  for_each_group(w, [&](int64_t index, int64_t begin, int64_t count) {
    const codec::GroupScale found = searched_scale(
        rule, [&](const codec::ScaleRule& clipped) { return group_scale(w, clipped, begin, count); },
        [&](const codec::GroupScale& tried) { return rounding_error(w.spec, group_at(w, begin, count), tried); });
    scale[index] = found.scale;
    if (zero_point) zero_point[index] = found.zero_point;
  });
  codec::replace_unmeasured_scales(w.spec, w.weight, w.mask, w.rows, w.columns, scale);
}

void fake_quantize(const FakeQuantization& q, float* output) {
  for_each_group(q, [&](int64_t index, int64_t begin, int64_t count) {
    const codec::GroupScale group = q.group_scale(index);
    const Vector scale = Vector::all(group.scale), zero_point = Vector::all(group.zero_point);
    const float threshold = threshold_of(q, begin, count);
    for_each_vector(count, [&](int64_t i, int64_t lanes) {
      const int64_t at = begin + i;
      const Vector weight = q.rounding == Rounding::kNoise
                                ? Vector::load(q.weight + at, lanes) + noise_of(q, at, lanes) * scale
                                : (level_of(q, at, lanes, group, threshold) - zero_point) * scale;
      ((q.mask ? weight * load_mask(q.mask + at, lanes) : weight) + Vector::zero()).store(output + at, lanes);  // + 0: no -0
    });
  });
}

void fake_quantize_backward(const FakeQuantization& q, const float* output_gradient, const GradientChoices& choices,
                            const FakeQuantizationGradients& gradients) {
  const float half = codec::outer_half(q.spec);
  const Vector low = Vector::all(static_cast<float>(q.spec.lowest_level()) - half);
  const Vector high = Vector::all(static_cast<float>(q.spec.highest_level()) + half);
  const bool noise = q.rounding == Rounding::kNoise, clipped = choices.clipped && !noise;
  for_each_group(q, [&](int64_t index, int64_t begin, int64_t count) {
    const codec::GroupScale group = q.group_scale(index);
    const Vector scale = Vector::all(group.scale), zero_point = Vector::all(group.zero_point), zero = Vector::zero();
    const float threshold = threshold_of(q, begin, count);
    Vector scale_sum = zero, zero_point_sum = zero;
    for_each_vector(count, [&](int64_t i, int64_t lanes) {
      const int64_t at = begin + i;
      Vector gradient = masked(q, output_gradient, at, lanes);
      Vector passed = choices.through_mask ? Vector::load(output_gradient + at, lanes) : gradient;
      Vector ratio = Vector::load(q.weight + at, lanes) / scale;
      const Vector place = ratio + zero_point;
      const Vector level = noise ? noise_of(q, at, lanes) + place : level_of(q, at, lanes, group, threshold);
      if (clipped) {
        const Vector inside = select_greater(place, high, zero, select_greater(low, place, zero, Vector::all(1.0f)));
        ratio = ratio * inside;
        passed = passed * inside;
        zero_point_sum = multiply_add(gradient * (inside - Vector::all(1.0f)), scale, zero_point_sum);
      }
      passed.store(gradients.weight + at, lanes);
      scale_sum = multiply_add(gradient, level - zero_point - ratio, scale_sum);
    });
    gradients.scale[index] = scale_sum.sum();
    if (gradients.zero_point) gradients.zero_point[index] = zero_point_sum.sum();
  });
}

void apply_mask(const float* x, const uint8_t* mask, float pruned, float* output, int64_t count) {
  const Vector factor = Vector::all(pruned), half = Vector::all(0.5f);
  parallel_for(count, kWeightGrain, [&](int64_t begin, int64_t end) {
    for_each_vector(end - begin, [&](int64_t i, int64_t lanes) {
      const int64_t at = begin + i;
      const Vector value = Vector::load(x + at, lanes);
      (select_greater(load_mask(mask + at, lanes), half, value, value * factor) + Vector::zero()).store(output + at, lanes);  // no -0
    });
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
