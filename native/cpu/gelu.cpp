#include "cpu/gelu.hpp"

#include <algorithm>

#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kGrain = 8192;  // elements per thread below which waking one costs more than it saves

// erfc(|x| / sqrt 2) to 1.5e-7 (Abramowitz, Stegun 1964, 7.1.26).
inline Vector tail(Vector x) {
  const Vector z = absolute(x) * Vector::all(0.70710678f);
  const Vector t = Vector::all(1.0f) / multiply_add(z, Vector::all(0.3275911f), Vector::all(1.0f));
  Vector p = Vector::all(1.061405429f);
  p = multiply_add(p, t, Vector::all(-1.453152027f));
  p = multiply_add(p, t, Vector::all(1.421413741f));
  p = multiply_add(p, t, Vector::all(-0.284496736f));
  p = multiply_add(p, t, Vector::all(0.254829592f));
  return p * t * exponential(Vector::zero() - z * z);
}

}  // namespace

void gelu(const float* x, float* y, int64_t count) {
  const int64_t lanes = Vector::kLanes;
  parallel_for((count + lanes - 1) / lanes, kGrain / lanes, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * lanes;
    for_each_vector(std::min(end * lanes, count) - first, [&](int64_t i, int64_t width) {
      const Vector value = Vector::load(x + first + i, width);
      const Vector half = Vector::all(0.5f) * tail(value);
      const Vector probability = select_greater(value, Vector::zero(), Vector::all(1.0f) - half, half);
      (value * probability).store(y + first + i, width);
    });
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
