#include "cpu/elementwise.hpp"

#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kElementGrain = 16384;  // elements per thread below which waking one costs more than it saves

}  // namespace

void add_in_place(const float* x, float* y, int64_t count) { scaled_sum(x, 1.0f, y, 1.0f, y, count); }

void scaled_sum(const float* x, float a, const float* y_in, float b, float* y, int64_t count) {
  parallel_for(count, kElementGrain, [&](int64_t begin, int64_t end) {
    const Vector va = Vector::all(a), vb = Vector::all(b);
    for_each_vector(end - begin, [&](int64_t i, int64_t lanes) {
      const int64_t at = begin + i;
      const Vector sum = multiply_add(va, Vector::load(x + at, lanes), vb * Vector::load(y_in + at, lanes));
      sum.store(y + at, lanes);
    });
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
