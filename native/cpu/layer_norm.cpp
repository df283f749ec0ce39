#include "cpu/layer_norm.hpp"

#include <algorithm>
#include <cmath>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// Frames per thread below which waking one costs more than it saves.
int64_t grain(int64_t hidden) { return std::max<int64_t>(1, 8192 / std::max<int64_t>(hidden, 1)); }

// Sum of term(i, lanes) over a row. Four partial sums: one would make every addition wait for the one before.
template <typename Term>
[[gnu::always_inline]] inline float sum_over_row(int64_t count, const Term& term) {
  constexpr int64_t kLanes = Vector::kLanes;
  Vector a = Vector::zero(), b = Vector::zero(), c = Vector::zero(), d = Vector::zero();
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    a = a + term(i, kLanes);
    b = b + term(i + kLanes, kLanes);
    c = c + term(i + 2 * kLanes, kLanes);
    d = d + term(i + 3 * kLanes, kLanes);
  }
  for (; i + kLanes <= count; i += kLanes) a = a + term(i, kLanes);
  if (i < count) b = b + term(i, count - i);
  return ((a + b) + (c + d)).sum();
}

struct Moments {
  Vector mean, reciprocal_deviation;
};

// `total` is the sum of the row. The variance takes a second pass over a row that lies in the first-level cache.
Moments moments(const float* row, float total, int64_t hidden, float epsilon) {
  const Vector mean = Vector::all(total / static_cast<float>(hidden));
  const float squares = sum_over_row(hidden, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
    const Vector difference = Vector::load(row + i, lanes).head(lanes, mean) - mean;
    return difference * difference;
  });
  return {mean, Vector::all(1.0f / std::sqrt(squares / static_cast<float>(hidden) + epsilon))};
}

float row_sum(const float* row, int64_t hidden) {
  return sum_over_row(hidden, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
    return Vector::load(row + i, lanes);
  });
}

}  // namespace

void layer_norm_forward(const LayerNormForward& p) {
  parallel_for(p.frames, grain(p.hidden), [&](int64_t begin, int64_t end) {
    for (int64_t frame = begin; frame < end; ++frame) {
      const int64_t at = frame * p.hidden;
      const float* row = p.x + at;
      float total;
      if (p.y) {
        const Vector a = Vector::all(p.a), b = Vector::all(p.b);
        total = sum_over_row(p.hidden, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
          const Vector sum = multiply_add(a, Vector::load(p.x + at + i, lanes), b * Vector::load(p.y + at + i, lanes));
          sum.store(p.sum + at + i, lanes);
          return sum;
        });
        row = p.sum + at;
      } else {
        total = row_sum(row, p.hidden);
      }
      const Moments m = moments(row, total, p.hidden, p.epsilon);
      for_each_vector(p.hidden, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
        const Vector normal = (Vector::load(row + i, lanes) - m.mean) * m.reciprocal_deviation;
        const Vector bias = p.bias ? Vector::load(p.bias + i, lanes) : Vector::zero();
        multiply_add(normal, Vector::load(p.weight + i, lanes), bias).store(p.normalized + at + i, lanes);
      });
    }
  });
}

void layer_norm_backward(const LayerNormBackward& p) {
  const int parts = part_count(p.frames, grain(p.hidden));
  // Sums over frames are kept per part and added in order: the result depends on the thread count only.
  Scratch<float> partial(static_cast<size_t>(std::max(parts, 1)) * 2 * p.hidden);
  std::fill_n(partial.data(), std::max(parts, 1) * 2 * p.hidden, 0.0f);
  parallel_parts(p.frames, parts, [&](int part, int64_t begin, int64_t end) {
    float* weight = partial.data() + part * 2 * p.hidden;
    float* bias = weight + p.hidden;
    const Vector a = Vector::all(p.a), b = Vector::all(p.b);
    for (int64_t frame = begin; frame < end; ++frame) {
      const int64_t at = frame * p.hidden;
      Vector scale = Vector::zero(), mean = Vector::zero(), deviation = Vector::zero(), offset = Vector::zero();
      if (p.gradient_normalized) {
        const Moments m = moments(p.sum + at, row_sum(p.sum + at, p.hidden), p.hidden, p.epsilon);
        Vector gradient_total = Vector::zero(), product_total = Vector::zero();
        for_each_vector(p.hidden, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
          const Vector normal = (Vector::load(p.sum + at + i, lanes) - m.mean) * m.reciprocal_deviation;
          const Vector gradient = Vector::load(p.gradient_normalized + at + i, lanes);
          const Vector weighted = gradient * Vector::load(p.weight + i, lanes);
          gradient_total = gradient_total + weighted;
          product_total = multiply_add(weighted, normal, product_total);
          multiply_add(gradient, normal, Vector::load(weight + i, lanes)).store(weight + i, lanes);
          if (p.gradient_bias) (Vector::load(bias + i, lanes) + gradient).store(bias + i, lanes);
        });
        // through = r (g w - mean(g w) - normal mean(g w normal)), written as r g w + (x - mean) deviation + offset
        const Vector count = Vector::all(1.0f / static_cast<float>(p.hidden));
        const Vector r = m.reciprocal_deviation;
        scale = r;
        mean = m.mean;
        deviation = Vector::zero() - r * r * Vector::all(product_total.sum()) * count;
        offset = Vector::zero() - r * Vector::all(gradient_total.sum()) * count;
      }
      for_each_vector(p.hidden, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
        Vector total = p.gradient_sum ? Vector::load(p.gradient_sum + at + i, lanes) : Vector::zero();
        if (p.gradient_normalized) {
          const Vector weighted = Vector::load(p.gradient_normalized + at + i, lanes) * Vector::load(p.weight + i, lanes);
          const Vector centred = Vector::load(p.sum + at + i, lanes) - mean;
          total = total + multiply_add(weighted, scale, multiply_add(centred, deviation, offset));
        }
        if (p.gradient_x) (a * total).store(p.gradient_x + at + i, lanes);
        if (p.gradient_y) (b * total).store(p.gradient_y + at + i, lanes);
      });
    }
  });
  for (int64_t i = 0; i < p.hidden; ++i) {
    float weight = 0.0f, bias = 0.0f;
    for (int part = 0; part < parts; ++part) {
      weight += partial[part * 2 * p.hidden + i];
      bias += partial[(part * 2 + 1) * p.hidden + i];
    }
    if (p.gradient_weight) p.gradient_weight[i] = weight;
    if (p.gradient_bias) p.gradient_bias[i] = bias;
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
