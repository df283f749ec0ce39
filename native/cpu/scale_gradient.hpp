// What flows through the scale of a group in quantization-aware training, to the weights that the scale was computed from.
#pragma once
#include <cmath>
#include <cstdint>

#include "cpu/fake_quantize.hpp"

namespace usmlite::cpu {

/// Adds the derivative of `sum` * scale to the gradients of weights [begin, begin + count): codec::group_scale says how the
/// scale depends on them. Of equal extremes the first one gets it.
inline void add_scale_gradient(const FakeQuantization& q, int64_t begin, int64_t count, float sum, float* weight_gradient) {
  const auto kept = [&](int64_t i) { return !q.mask || q.mask[i]; };
  const auto sign = [&](int64_t i) { return q.weight[i] < 0.0f ? -1.0f : 1.0f; };
  const bool mean = q.spec.highest_level() == 1 && (q.spec.format == codec::NumberFormat::kTernary ||
                                                    q.spec.format == codec::NumberFormat::kMidRise);
  if (mean) {
    int64_t number = 0;
    for (int64_t i = begin; i < begin + count; ++i) number += kept(i);
    for (int64_t i = begin; i < begin + count; ++i) {
      if (kept(i)) weight_gradient[i] += sign(i) * sum / static_cast<float>(number);
    }
    return;
  }
  int64_t largest = -1, least = -1;  // by magnitude in formats without zero points
  const auto measure = [&](int64_t i) { return q.spec.has_zero_points() ? q.weight[i] : std::fabs(q.weight[i]); };
  for (int64_t i = begin; i < begin + count; ++i) {
    if (!kept(i)) continue;
    if (largest < 0 || measure(i) > measure(largest)) largest = i;
    if (least < 0 || measure(i) < measure(least)) least = i;
  }
  const float share = sum / static_cast<float>(q.spec.highest_level());
  if (q.spec.has_zero_points()) {
    weight_gradient[largest] += share;
    weight_gradient[least] -= share;
  } else {
    weight_gradient[largest] += sign(largest) * share;
  }
}

}  // namespace usmlite::cpu
