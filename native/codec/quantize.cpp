#include "codec/quantize.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

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

void quantize_row(const WeightSpec& spec, const float* weights, const uint8_t* mask, int64_t columns, int32_t* codes,
                  float* scales) {
  for (int64_t i = 0; i < columns; ++i) {
    if (!std::isfinite(weights[i])) {
      throw Error(error_code::kInvalidArgument, "a weight is NaN or infinite; only finite weights can be packed");
    }
  }
  const auto kept = [&](int64_t i) { return !mask || mask[i] ? weights[i] + 0.0f : 0.0f; };
  if (!spec.is_integer()) {
    for (int64_t i = 0; i < columns; ++i) codes[i] = std::bit_cast<int32_t>(kept(i));
    return;
  }
  const float limit = static_cast<float>(spec.maximum_code());
  const int64_t group = spec.group_size ? spec.group_size : columns;
  for (int64_t begin = 0; begin < columns; begin += group) {
    const int64_t end = std::min(begin + group, columns);
    float largest = 0.0f;
    for (int64_t i = begin; i < end; ++i) largest = std::max(largest, std::fabs(kept(i)));
    float scale = largest / limit;
    if (scale == 0.0f) scale = 1.0f;
    scales[begin / group] = scale;
    for (int64_t i = begin; i < end; ++i) {
      codes[i] = static_cast<int32_t>(std::clamp(std::nearbyint(kept(i) / scale), -limit, limit));
    }
  }
}

void dequantize_row(const WeightSpec& spec, const int32_t* codes, const float* scales, int64_t columns,
                    float* weights) {
  const int64_t group = spec.group_size ? spec.group_size : columns;
  for (int64_t i = 0; i < columns; ++i) {
    weights[i] = spec.is_integer() ? static_cast<float>(codes[i]) * scales[i / group] : std::bit_cast<float>(codes[i]);
  }
}

}  // namespace usmlite::codec
