#include "cpu/gelu.hpp"

#include <algorithm>

#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kGeluGrain = 8192;  // elements per thread below which waking one costs more than it saves

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

inline Vector distribution(Vector x) {
  const Vector half = Vector::all(0.5f) * tail(x);
  return select_greater(x, Vector::zero(), Vector::all(1.0f) - half, half);
}

// Calls step(index, lanes) over [0, count), in whole vectors for each thread.
template <typename Step>
void for_each_in_parallel(int64_t count, const Step& step) {
  const int64_t lanes = Vector::kLanes;
  parallel_for((count + lanes - 1) / lanes, kGeluGrain / lanes, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * lanes;
    for_each_vector(std::min(end * lanes, count) - first, [&](int64_t i, int64_t width) { step(first + i, width); });
  });
}

}  // namespace

void gelu(const float* x, float* y, int64_t count) {
  for_each_in_parallel(count, [&](int64_t i, int64_t lanes) {
    const Vector value = Vector::load(x + i, lanes);
    (value * distribution(value)).store(y + i, lanes);
  });
}

void gelu_backward(const float* x, const float* gradient, float* gradient_x, int64_t count) {
  for_each_in_parallel(count, [&](int64_t i, int64_t lanes) {
    const Vector value = Vector::load(x + i, lanes);
    const Vector density = Vector::all(0.39894228f) * exponential(Vector::all(-0.5f) * value * value);
    (Vector::load(gradient + i, lanes) * multiply_add(value, density, distribution(value))).store(gradient_x + i, lanes);
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
