#include "cpu/round_rows.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// NaN is larger than nothing: whether all are finite is asked of the sum of x * 0.
struct Extremes {
  float least, most;
  bool finite;
};

Extremes extremes(const float* x, int64_t columns) {
  const Vector zero = Vector::zero(), first = Vector::all(x[0]);
  Vector least = first, most = first, nothing = zero;
  for_each_vector(columns, [&](int64_t i, int64_t lanes) {
    const Vector value = Vector::load(x + i, lanes).head(lanes, first);
    least = minimum(least, value);
    most = maximum(most, value);
    nothing = nothing + value * zero;
  });
  return {-(zero - least).maximum(), most.maximum(), nothing.sum() == 0.0f};
}

}  // namespace

void round_rows(const float* x, int64_t rows, int64_t columns, ActivationCoding coding, float* output) {
  constexpr int64_t kGrain = 16384;  // elements per thread below which waking one costs more than it saves
  parallel_for(rows, std::max<int64_t>(kGrain / std::max<int64_t>(columns, 1), 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* from = x + row * columns;
      float* to = output + row * columns;
      const Extremes range = extremes(from, columns);
      if (!range.finite) {
        std::fill_n(to, columns, std::numeric_limits<float>::quiet_NaN());
        continue;
      }
      float low = 0.0f, scale, inverse, most;
      if (coding == ActivationCoding::kInt8Asymmetric) {
        low = range.least, most = 254.0f, scale = range.most / most - low / most;
        inverse = scale < kSmallestActivation ? 0.0f : 1.0f / scale;
      } else {
        const float largest = std::max(std::fabs(range.least), std::fabs(range.most));
        most = coding == ActivationCoding::kInt4 ? 7.0f : 127.0f, scale = largest / most;
        inverse = largest < kSmallestActivation ? 0.0f : most / largest;
      }
      const Vector from_low = Vector::all(low), factor = Vector::all(inverse), limit = Vector::all(most), step = Vector::all(scale);
      for_each_vector(columns, [&](int64_t i, int64_t lanes) {
        const Vector code = round(minimum((Vector::load(from + i, lanes) - from_low) * factor, limit));
        multiply_add(code, step, from_low).store(to + i, lanes);
      });
    }
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
