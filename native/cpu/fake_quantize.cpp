#include "cpu/fake_quantize.hpp"

#include <algorithm>

#include "codec/quantize.hpp"
#include "core/thread_pool.hpp"
#include "cpu/scale_gradient.hpp"
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

// codec::group_scale, the common case with vectors.
codec::GroupScale group_scale(const FakeQuantization& q, int64_t begin, int64_t count) {
  if (q.spec.format != codec::NumberFormat::kSymmetric) {
    return codec::group_scale(q.spec, q.weight + begin, q.mask ? q.mask + begin : nullptr, count);
  }
  const float scale = largest_magnitude(q, begin, count) / static_cast<float>(q.spec.highest_level());
  return {scale == 0.0f ? 1.0f : scale, 0.0f, scale == 0.0f};
}

// codec::nearest_level
Vector nearest_level(const codec::WeightSpec& spec, Vector weight, const codec::GroupScale& group) {
  const Vector ratio = weight / Vector::all(group.scale);
  if (spec.format == codec::NumberFormat::kNormalFloat4) {
    const auto& levels = codec::kNormalFloat4Levels;
    Vector level = Vector::all(levels[0]);
    for (size_t i = 0; i + 1 < levels.size(); ++i) {
      const Vector middle = Vector::all(0.5f * static_cast<float>(levels[i] + levels[i + 1]));
      level = select_greater(ratio, middle, Vector::all(levels[i + 1]), level);
    }
    return level;
  }
  const bool odd = spec.format == codec::NumberFormat::kMidRise;
  const Vector one = Vector::all(1.0f), half = Vector::all(0.5f);
  const Vector level = odd ? Vector::all(2.0f) * round((ratio - one) * half) + one : round(ratio + Vector::all(group.zero_point));
  return maximum(minimum(level, Vector::all(static_cast<float>(spec.highest_level()))),
                 Vector::all(static_cast<float>(spec.lowest_level())));
}

// Calls body(begin, count, scale) for every scale group, rows spread over threads.
template <typename Body>
void for_each_group(const FakeQuantization& q, Body&& body) {
  parallel_for(q.rows, std::max<int64_t>(kGrain / std::max<int64_t>(q.columns, 1), 1), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      for (int64_t column = 0; column < q.columns; column += q.group()) {
        const int64_t begin = row * q.columns + column, count = std::min(q.group(), q.columns - column);
        body(begin, count, group_scale(q, begin, count));
      }
    }
  });
}

}  // namespace

void fake_quantize(const FakeQuantization& q, float* output) {
  for_each_group(q, [&](int64_t begin, int64_t count, const codec::GroupScale& group) {
    const Vector scale = Vector::all(group.scale), zero_point = Vector::all(group.zero_point);
    for_each_vector(count, [&](int64_t i, int64_t lanes) {
      const int64_t at = begin + i;
      const Vector level = nearest_level(q.spec, Vector::load(q.weight + at, lanes), group);
      const Vector weight = (level - zero_point) * scale;
      ((q.mask ? weight * load_mask(q.mask + at, lanes) : weight) + Vector::zero()).store(output + at, lanes);  // + 0: no -0
    });
  });
}

void fake_quantize_backward(const FakeQuantization& q, const float* output_gradient, bool scale_gradient,
                            float* weight_gradient) {
  for_each_group(q, [&](int64_t begin, int64_t count, const codec::GroupScale& group) {
    const Vector scale = Vector::all(group.scale), zero_point = Vector::all(group.zero_point);
    Vector sum = Vector::zero();
    for_each_vector(count, [&](int64_t i, int64_t lanes) {
      const int64_t at = begin + i;
      const Vector gradient = masked(q, output_gradient, at, lanes);
      gradient.store(weight_gradient + at, lanes);
      const Vector weight = Vector::load(q.weight + at, lanes);
      sum = multiply_add(gradient, nearest_level(q.spec, weight, group) - zero_point - weight / scale, sum);
    });
    if (scale_gradient && !group.constant) add_scale_gradient(q, begin, count, sum.sum(), weight_gradient);
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
