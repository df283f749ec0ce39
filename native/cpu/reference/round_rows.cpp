#include "cpu/round_rows.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace usmlite::cpu::reference {
namespace {

void round_symmetric(const float* x, int64_t columns, float limit, float* output) {
  float largest = 0.0f;
  for (int64_t i = 0; i < columns; ++i) largest = std::max(largest, std::fabs(x[i]));
  const bool zero = largest < kSmallestActivation;
  const float scale = zero ? 0.0f : largest / limit, inverse = zero ? 0.0f : limit / largest;
  for (int64_t i = 0; i < columns; ++i) output[i] = std::nearbyint(x[i] * inverse) * scale;
}

void round_range(const float* x, int64_t columns, float* output) {
  const auto [least, most] = std::minmax_element(x, x + columns);
  const float low = *least, scale = *most / 254.0f - low / 254.0f;
  if (scale < kSmallestActivation) {
    std::fill_n(output, columns, low);
    return;
  }
  const float inverse = 1.0f / scale;
  for (int64_t i = 0; i < columns; ++i) output[i] = std::nearbyint(std::min((x[i] - low) * inverse, 254.0f)) * scale + low;
}

}  // namespace

void round_rows(const float* x, int64_t rows, int64_t columns, ActivationCoding coding, float* output) {
  for (int64_t row = 0; row < rows; ++row, x += columns, output += columns) {
    if (!std::all_of(x, x + columns, [](float value) { return std::isfinite(value); })) {
      std::fill_n(output, columns, std::numeric_limits<float>::quiet_NaN());
    } else if (coding == ActivationCoding::kInt8Asymmetric) {
      round_range(x, columns, output);
    } else {
      round_symmetric(x, columns, coding == ActivationCoding::kInt4 ? 7.0f : 127.0f, output);
    }
  }
}

}  // namespace usmlite::cpu::reference
