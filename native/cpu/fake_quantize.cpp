#include "cpu/fake_quantize.hpp"

#include <algorithm>
#include <cmath>

#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kGrain = 16384;  // weights per thread below which waking one costs more than it saves

// 1 where the mask is set, 0 elsewhere.
Vector load_mask(const uint8_t* mask, int64_t lanes) {
  return minimum(Vector::load_bytes(mask, lanes), Vector::all(1.0f));
}

Vector masked(const FakeQuantization& q, const float* x, int64_t at, int64_t lanes) {
  const Vector value = Vector::load(x + at, lanes);
  return q.mask ? value * load_mask(q.mask + at, lanes) : value;
}

float largest_magnitude(const FakeQuantization& q, int64_t begin, int64_t count) {
  Vector largest = Vector::zero();
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    largest = maximum(largest, absolute(masked(q, q.weight, begin + i, lanes)));
  });
  return largest.maximum();
}

// Calls body(begin, count, largest magnitude, scale) for every scale group, rows spread over threads.
template <typename Body>
void for_each_group(const FakeQuantization& q, Body&& body) {
  parallel_for(q.rows, std::max<int64_t>(kGrain / std::max<int64_t>(q.columns, 1), 1), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      for (int64_t column = 0; column < q.columns; column += q.group) {
        const int64_t begin = row * q.columns + column;
        const int64_t count = std::min(q.group, q.columns - column);
        const float largest = largest_magnitude(q, begin, count);
        const float scale = largest / q.limit;
        body(begin, count, largest, scale == 0.0f ? 1.0f : scale);
      }
    }
  });
}

}  // namespace

void fake_quantize(const FakeQuantization& q, float* output) {
  const Vector high = Vector::all(q.limit), low = Vector::all(-q.limit);
  for_each_group(q, [&](int64_t begin, int64_t count, float, float group_scale) {
    const Vector scale = Vector::all(group_scale);
    for_each_vector(count, [&](int64_t i, int64_t lanes) {
      const Vector rounded = round(masked(q, q.weight, begin + i, lanes) / scale);
      const Vector code = maximum(minimum(rounded, high), low) + Vector::zero();  // + 0: codes have no -0
      (code * scale).store(output + begin + i, lanes);
    });
  });
}

void fake_quantize_backward(const FakeQuantization& q, const float* output_gradient, bool scale_gradient,
                            float* weight_gradient) {
  for_each_group(q, [&](int64_t begin, int64_t count, float largest, float group_scale) {
    const Vector scale = Vector::all(group_scale);
    Vector sum = Vector::zero();
    for_each_vector(count, [&](int64_t i, int64_t lanes) {
      const Vector gradient = masked(q, output_gradient, begin + i, lanes);
      gradient.store(weight_gradient + begin + i, lanes);
      const Vector ratio = masked(q, q.weight, begin + i, lanes) / scale;
      sum = multiply_add(gradient, round(ratio) - ratio, sum);
    });
    if (!scale_gradient || largest / q.limit == 0.0f) return;
    const float through_scale = sum.sum() / q.limit;
    for (int64_t i = begin; i < begin + count; ++i) {
      if ((q.mask && !q.mask[i]) || std::abs(q.weight[i]) != largest) continue;
      weight_gradient[i] += q.weight[i] < 0.0f ? -through_scale : through_scale;
      return;
    }
  });
}

void apply_mask(const float* x, const uint8_t* mask, float* output, int64_t count) {
  parallel_for(count, kGrain, [&](int64_t begin, int64_t end) {
    for_each_vector(end - begin, [&](int64_t i, int64_t lanes) {
      const int64_t at = begin + i;
      (Vector::load(x + at, lanes) * load_mask(mask + at, lanes) + Vector::zero()).store(output + at, lanes);  // no -0
    });
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
