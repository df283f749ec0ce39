// What flows through the scales of groups to the weights that they were computed from: scattered writes, the same code for
// every instruction set.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/thread_pool.hpp"
#include "cpu/fake_quantize.hpp"

namespace usmlite::cpu {
namespace {

using codec::ScaleStatistic;

struct Group {
  const float* weight;
  const uint8_t* mask;
  int64_t count;
  float* gradient;

  bool kept(int64_t i) const { return !mask || mask[i]; }
};

float sign(float x) { return x < 0.0f ? -1.0f : 1.0f; }

bool is_mean(const codec::WeightSpec& spec, ScaleStatistic statistic) {
  const bool format = spec.highest_level() == 1 && (spec.format == codec::NumberFormat::kTernary ||
                                                    spec.format == codec::NumberFormat::kMidRise);
  return statistic == ScaleStatistic::kMean || (statistic == ScaleStatistic::kFormat && format);
}

// d scale / d w_i = scale * sign(w_i) / sum |w|, over the weights that count.
void through_mean(const Group& group, float scale, float gradient, float threshold) {
  double sum = 0.0;
  for (int64_t i = 0; i < group.count; ++i) {
    if (group.kept(i) && std::fabs(group.weight[i]) > threshold) sum += std::fabs(group.weight[i]);
  }
  if (sum == 0.0) return;
  const float share = gradient * scale / static_cast<float>(sum);
  for (int64_t i = 0; i < group.count; ++i) {
    if (group.kept(i) && std::fabs(group.weight[i]) > threshold) group.gradient[i] += sign(group.weight[i]) * share;
  }
}

// mean |w - mean w|
void through_centred_mean(const Group& group, float scale, float gradient) {
  const float centre = codec::rounding_threshold(codec::Rounding::kCentred, group.weight, group.mask, group.count);
  double sum = 0.0, signs = 0.0;
  int64_t kept = 0;
  for (int64_t i = 0; i < group.count; ++i) {
    if (!group.kept(i)) continue;
    sum += std::fabs(group.weight[i] - centre), signs += sign(group.weight[i] - centre), ++kept;
  }
  if (sum == 0.0) return;
  const float share = gradient * scale / static_cast<float>(sum), mean_sign = static_cast<float>(signs / static_cast<double>(kept));
  for (int64_t i = 0; i < group.count; ++i) {
    if (group.kept(i)) group.gradient[i] += (sign(group.weight[i] - centre) - mean_sign) * share;
  }
}

// The first kept weight with the largest measure, or -1. Four maxima side by side: one would wait for itself at each weight.
template <typename Measure>
int64_t first_largest(const Group& group, Measure&& measure) {
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  float largest[4] = {kNothing, kNothing, kNothing, kNothing};
  const auto take = [&](int64_t i, float& most) { most = std::max(most, group.kept(i) ? measure(i) : kNothing); };
  int64_t i = 0;
  for (; i + 4 <= group.count; i += 4) {
    for (int64_t lane = 0; lane < 4; ++lane) take(i + lane, largest[lane]);
  }
  for (; i < group.count; ++i) take(i, largest[0]);
  const float most = std::max(std::max(largest[0], largest[1]), std::max(largest[2], largest[3]));
  for (i = 0; i < group.count; ++i) {
    if (group.kept(i) && measure(i) == most) return i;
  }
  return -1;
}

void through_maximum(const Group& group, float scale, float gradient) {
  const int64_t largest = first_largest(group, [&](int64_t i) { return std::fabs(group.weight[i]); });
  if (largest < 0 || group.weight[largest] == 0.0f) return;
  group.gradient[largest] += gradient * scale / group.weight[largest];
}

// The scale is proportional to high - low; zero point = - levels * low / (high - low), up to a constant.
void through_range(const Group& group, float levels, float scale, float scale_gradient, float zero_point_gradient) {
  const int64_t largest = first_largest(group, [&](int64_t i) { return group.weight[i]; });
  const int64_t least = first_largest(group, [&](int64_t i) { return -group.weight[i]; });
  if (least < 0) return;
  const float low = group.weight[least], range = group.weight[largest] - low;
  if (range == 0.0f) return;
  const float share = scale_gradient * scale / range, zero_share = zero_point_gradient * levels / range;
  group.gradient[largest] += share + zero_share * low / range;
  group.gradient[least] -= share + zero_share * (1.0f + low / range);
}

}  // namespace

void add_scale_gradients(const WeightGroups& w, const codec::ScaleRule& rule, const float* scale, const float* scale_gradient,
                         const float* zero_point_gradient, float* weight_gradient) {
  const int64_t per_row = w.groups_per_row();
  const float edges = rule.statistic == ScaleStatistic::kEdge ? 2.0f * codec::outer_half(w.spec) : 0.0f;
  const float levels = static_cast<float>(w.spec.highest_level()) + edges;
  parallel_for(w.rows, 16, [&](int64_t first, int64_t last) {
    for (int64_t index = first * per_row; index < last * per_row; ++index) {
      const int64_t column = index % per_row * w.group(), begin = index / per_row * w.columns + column;
      const Group group{w.weight + begin, w.mask ? w.mask + begin : nullptr, std::min(w.group(), w.columns - column),
                        weight_gradient + begin};
      const float gradient = scale_gradient[index];
      if (w.spec.has_zero_points()) {
        through_range(group, levels, scale[index], gradient, zero_point_gradient ? zero_point_gradient[index] : 0.0f);
      } else if (rule.statistic == ScaleStatistic::kCentred) {
        through_centred_mean(group, scale[index], gradient);
      } else if (rule.statistic == ScaleStatistic::kThreshold) {
        through_mean(group, scale[index], gradient,
                     codec::rounding_threshold(codec::Rounding::kThreshold, group.weight, group.mask, group.count));
      } else if (is_mean(w.spec, rule.statistic)) {
        through_mean(group, scale[index], gradient, -1.0f);
      } else {
        through_maximum(group, scale[index], gradient);
      }
    }
  });
}

}  // namespace usmlite::cpu
