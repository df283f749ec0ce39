// codec::nearest_level on vectors. Included only by native/cpu/*.cpp.
#pragma once
#include "codec/quantize.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// The same levels as codec::nearest_level, lane by lane.
inline Vector nearest_level(const codec::WeightSpec& spec, Vector weight, const codec::GroupScale& group) {
  const Vector ratio = weight / Vector::all(group.scale);
  if (spec.format == codec::NumberFormat::kNormalFloat4) {
    const auto& levels = codec::kNormalFloat4Levels;
    Vector level = Vector::all(levels[0]);
    for (size_t i = 0; i + 1 < levels.size(); ++i) {
      const Vector middle = Vector::all(0.5f * static_cast<float>(levels[i] + levels[i + 1]));
      level = select_greater(ratio, middle, Vector::all(levels[i + 1]), level);
    }
    return level;
  }
  const bool odd = spec.format == codec::NumberFormat::kMidRise;
  const Vector one = Vector::all(1.0f), half = Vector::all(0.5f);
  const Vector level = odd ? Vector::all(2.0f) * round((ratio - one) * half) + one : round(ratio + Vector::all(group.zero_point));
  return maximum(minimum(level, Vector::all(static_cast<float>(spec.highest_level()))),
                 Vector::all(static_cast<float>(spec.lowest_level())));
}

}  // namespace usmlite::cpu::USMLITE_ISA
