#include "cpu/scale_search.hpp"

namespace usmlite::cpu::reference {

codec::GroupScale search_scale(const codec::WeightSpec& spec, const ScaleGroup& group) {
  const codec::GroupScale own = codec::group_scale(spec, group.weights, group.mask, group.count);
  if (own.constant) return own;
  codec::GroupScale best = own;
  double least = -1.0;
  for (const float factor : scale_factors(spec)) {
    const codec::GroupScale tried = scaled(own, factor);
    if (!(tried.scale > 0.0f)) continue;
    double error = 0.0;
    for (int64_t i = 0; i < group.count; ++i) {
      if (group.mask && !group.mask[i]) continue;
      const double rounded = (codec::nearest_level(spec, group.weights[i], tried) - tried.zero_point) * tried.scale;
      const double difference = group.weights[i] - rounded;
      error += (group.importance ? group.importance[i] : 1.0) * difference * difference;
    }
    if (least < 0.0 || error < least) {
      least = error;
      best = tried;
    }
  }
  return best;
}

}  // namespace usmlite::cpu::reference
