#include "cpu/cross_entropy.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

void cross_entropy(const float* logits, const int32_t* labels, int64_t rows, int64_t columns, float smoothing, float* losses,
                   float* gradient) {
  const float spread = smoothing / static_cast<float>(columns), rest = 1.0f - smoothing;
  parallel_for(rows, std::max<int64_t>(1, 4096 / columns), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* x = logits + row * columns;
      float* slopes = gradient ? gradient + row * columns : nullptr;
      const int32_t label = labels[row];
      if (label < 0) {
        losses[row] = 0.0f;
        if (slopes) std::fill_n(slopes, columns, 0.0f);
        continue;
      }
      const Vector lowest = Vector::all(-std::numeric_limits<float>::infinity());
      Vector high = lowest, finite = Vector::zero();
      for_each_vector(columns, [&](int64_t i, int64_t lanes) {
        const Vector value = Vector::load(x + i, lanes);
        finite = multiply_add(value, Vector::zero(), finite);  // infinity * 0 is NaN
        high = maximum(high, value.head(lanes, lowest));
      });
      const float largest = high.maximum();
      const Vector shift = Vector::all(largest);
      Vector powers = Vector::zero(), shifted = Vector::zero();
      for_each_vector(columns, [&](int64_t i, int64_t lanes) {
        const Vector value = Vector::load(x + i, lanes) - shift;
        powers = powers + exponential(value).head(lanes, Vector::zero());
        shifted = shifted + value.head(lanes, Vector::zero());
      });
      const float sum = finite.sum() == 0 ? powers.sum() : std::numeric_limits<float>::quiet_NaN();
      losses[row] = std::log(sum) - rest * (x[label] - largest) - spread * shifted.sum();
      if (!slopes) continue;
      const Vector share = Vector::all(1.0f / sum), floor = Vector::all(spread);
      for_each_vector(columns, [&](int64_t i, int64_t lanes) {
        (exponential(Vector::load(x + i, lanes) - shift) * share - floor).store(slopes + i, lanes);
      });
      slopes[label] -= rest;
    }
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
