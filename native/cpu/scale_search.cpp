#include "cpu/scale_search.hpp"

#include "cpu/nearest_level.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

float rounding_error(const codec::WeightSpec& spec, const ScaleGroup& group, const codec::GroupScale& tried) {
  const Vector scale = Vector::all(tried.scale), zero_point = Vector::all(tried.zero_point);
  Vector sum = Vector::zero();
  for_each_vector(group.count, [&](int64_t i, int64_t lanes) {
    const Vector weight = Vector::load(group.weights + i, lanes);
    Vector difference = weight - (nearest_level(spec, weight, tried) - zero_point) * scale;
    if (group.mask) difference = difference * minimum(Vector::load_bytes(group.mask + i, lanes), Vector::all(1.0f));
    // Lanes behind the last weight hold zero, which not every format can round to.
    const Vector importance = group.importance ? Vector::load(group.importance + i, lanes) : Vector::all(1.0f).head(lanes, Vector::zero());
    sum = multiply_add(importance * difference, difference, sum);
  });
  return sum.sum();
}

codec::GroupScale search_scale(const codec::WeightSpec& spec, const ScaleGroup& group) {
  const codec::GroupScale own = codec::group_scale(spec, group.weights, group.mask, group.count);
  if (own.constant) return own;
  const auto factors = scale_factors(spec);
  return least_error(own, static_cast<int>(factors.size()), [&](int i) { return scaled(own, factors[static_cast<size_t>(i)]); },
                     [&](const codec::GroupScale& tried) { return rounding_error(spec, group, tried); });
}

}  // namespace usmlite::cpu::USMLITE_ISA
