#include "codec/quantize.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "core/error.hpp"

namespace usmlite::codec {

void magnitude_mask(const float* weights, int64_t columns, int kept, int of, uint8_t* mask) {
  for (int64_t begin = 0; begin < columns; begin += of) {
    const int64_t end = std::min(begin + of, columns);
    for (int64_t i = begin; i < end; ++i) {
      // The rank of i within its group: how many come before it.
      int larger = 0;
      for (int64_t j = begin; j < end; ++j) {
        const float a = std::fabs(weights[j]), b = std::fabs(weights[i]);
        larger += a > b || (a == b && j < i);
      }
      mask[i] = larger < kept;
    }
  }
}

namespace {

bool scaled_by_mean(const WeightSpec& spec) {
  return spec.format == NumberFormat::kTernary || (spec.format == NumberFormat::kMidRise && spec.bits == 1);
}

// The scale, or 1 where it is zero or lost in underflow.
GroupScale with_scale(float scale) { return scale == 0.0f ? GroupScale{1.0f, 0.0f, true} : GroupScale{scale, 0.0f, false}; }

GroupScale range_scale(const WeightSpec& spec, const float* weights, const uint8_t* mask, int64_t count) {
  float low = std::numeric_limits<float>::infinity(), high = -low;
  for (int64_t i = 0; i < count; ++i) {
    if (mask && !mask[i]) continue;
    low = std::min(low, weights[i]);
    high = std::max(high, weights[i]);
  }
  if (low > high) return {1.0f, 0.0f, true};  // nothing is kept
  const float limit = static_cast<float>(spec.highest_level()), scale = high / limit - low / limit;
  if (scale == 0.0f || !std::isfinite(low / scale)) return {1.0f, 0.0f - low, true};
  return {scale, 0.0f - low / scale, false};
}

}  // namespace

GroupScale group_scale(const WeightSpec& spec, const float* weights, const uint8_t* mask, int64_t count) {
  if (spec.has_zero_points()) return range_scale(spec, weights, mask, count);
  if (scaled_by_mean(spec)) {
    double sum = 0.0;
    int64_t kept = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (mask && !mask[i]) continue;
      sum += std::fabs(weights[i]);
      ++kept;
    }
    return with_scale(kept ? static_cast<float>(sum / static_cast<double>(kept)) : 0.0f);
  }
  float largest = 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    if (!mask || mask[i]) largest = std::max(largest, std::fabs(weights[i]));
  }
  return with_scale(largest / static_cast<float>(spec.highest_level()));
}

float nearest_level(const WeightSpec& spec, float weight, const GroupScale& group) {
  const float ratio = weight / group.scale;
  if (spec.format == NumberFormat::kNormalFloat4) {
    size_t i = 0;
    while (i + 1 < kNormalFloat4Levels.size() &&
           ratio > 0.5f * static_cast<float>(kNormalFloat4Levels[i] + kNormalFloat4Levels[i + 1])) {
      ++i;
    }
    return kNormalFloat4Levels[i];
  }
  const bool odd = spec.format == NumberFormat::kMidRise;
  const float level = odd ? 2.0f * std::nearbyint((ratio - 1.0f) * 0.5f) + 1.0f : std::nearbyint(ratio + group.zero_point);
  return std::clamp(level, static_cast<float>(spec.lowest_level()), static_cast<float>(spec.highest_level()));
}

void quantize_row(const WeightSpec& spec, const float* weights, const uint8_t* mask, int64_t columns, int32_t* levels,
                  float* scales, float* zero_points, bool scales_given) {
  for (int64_t i = 0; i < columns; ++i) {
    if (!std::isfinite(weights[i])) {
      throw Error(error_code::kInvalidArgument, "a weight is NaN or infinite; only finite weights can be packed");
    }
  }
  const auto kept = [&](int64_t i) { return !mask || mask[i]; };
  if (!spec.is_integer()) {
    for (int64_t i = 0; i < columns; ++i) levels[i] = std::bit_cast<int32_t>(kept(i) ? weights[i] + 0.0f : 0.0f);
    return;
  }
  const int64_t group = spec.group_size ? spec.group_size : columns;
  for (int64_t begin = 0; begin < columns; begin += group) {
    const int64_t end = std::min(begin + group, columns);
    const GroupScale measure =
        scales_given ? GroupScale{scales[begin / group], spec.has_zero_points() ? zero_points[begin / group] : 0.0f, true}
                     : group_scale(spec, weights + begin, mask ? mask + begin : nullptr, end - begin);
    scales[begin / group] = measure.scale;
    if (spec.has_zero_points()) zero_points[begin / group] = measure.zero_point;
    for (int64_t i = begin; i < end; ++i) {
      levels[i] = kept(i) ? static_cast<int32_t>(nearest_level(spec, weights[i], measure)) : 0;
    }
  }
}

void dequantize_row(const WeightSpec& spec, const int32_t* levels, const float* scales, const float* zero_points,
                    const uint8_t* mask, int64_t columns, float* weights) {
  if (!spec.is_integer()) {
    for (int64_t i = 0; i < columns; ++i) weights[i] = std::bit_cast<float>(levels[i]);
    return;
  }
  const int64_t group = spec.group_size ? spec.group_size : columns;
  for (int64_t begin = 0; begin < columns; begin += group) {
    const float scale = scales[begin / group], zero_point = zero_points ? zero_points[begin / group] : 0.0f;
    for (int64_t i = begin; i < std::min(begin + group, columns); ++i) {
      weights[i] = mask && !mask[i] ? 0.0f : (static_cast<float>(levels[i]) - zero_point) * scale + 0.0f;
    }
  }
}

}  // namespace usmlite::codec
