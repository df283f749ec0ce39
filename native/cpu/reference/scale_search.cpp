#include "cpu/scale_search.hpp"

namespace usmlite::cpu::reference {

float rounding_error(const codec::WeightSpec& spec, const ScaleGroup& group, const codec::GroupScale& tried) {
  double error = 0.0;
  for (int64_t i = 0; i < group.count; ++i) {
    if (group.mask && !group.mask[i]) continue;
    const double rounded = (codec::nearest_level(spec, group.weights[i], tried) - tried.zero_point) * tried.scale;
    const double difference = group.weights[i] - rounded;
    error += (group.importance ? group.importance[i] : 1.0) * difference * difference;
  }
  return static_cast<float>(error);
}

codec::GroupScale search_scale(const codec::WeightSpec& spec, const ScaleGroup& group) {
  const codec::GroupScale own = codec::group_scale(spec, group.weights, group.mask, group.count);
  if (own.constant) return own;
  const auto factors = scale_factors(spec);
  return least_error(own, static_cast<int>(factors.size()), [&](int i) { return scaled(own, factors[static_cast<size_t>(i)]); },
                     [&](const codec::GroupScale& tried) { return rounding_error(spec, group, tried); });
}

}  // namespace usmlite::cpu::reference
