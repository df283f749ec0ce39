#include "cpu/fake_quantize.hpp"

#include <algorithm>
#include <cmath>

#include "codec/quantize.hpp"
#include "cpu/scale_gradient.hpp"

namespace usmlite::cpu::reference {
namespace {

bool kept(const FakeQuantization& q, int64_t i) { return !q.mask || q.mask[i]; }

// Calls body(begin, count, scale) for every scale group.
template <typename Body>
void for_each_group(const FakeQuantization& q, Body&& body) {
  for (int64_t row = 0; row < q.rows; ++row) {
    for (int64_t column = 0; column < q.columns; column += q.group()) {
      const int64_t begin = row * q.columns + column, count = std::min(q.group(), q.columns - column);
      body(begin, count, codec::group_scale(q.spec, q.weight + begin, q.mask ? q.mask + begin : nullptr, count));
    }
  }
}

}  // namespace

void fake_quantize(const FakeQuantization& q, float* output) {
  for_each_group(q, [&](int64_t begin, int64_t count, const codec::GroupScale& group) {
    for (int64_t i = begin; i < begin + count; ++i) {
      const float level = codec::nearest_level(q.spec, q.weight[i], group);
      output[i] = kept(q, i) ? (level - group.zero_point) * group.scale + 0.0f : 0.0f;  // + 0: levels have no -0
    }
  });
}

void fake_quantize_backward(const FakeQuantization& q, const float* output_gradient, bool scale_gradient,
                            float* weight_gradient) {
  for_each_group(q, [&](int64_t begin, int64_t count, const codec::GroupScale& group) {
    float sum = 0.0f;
    for (int64_t i = begin; i < begin + count; ++i) {
      const float gradient = kept(q, i) ? output_gradient[i] : 0.0f;
      const float level = codec::nearest_level(q.spec, q.weight[i], group);
      sum += gradient * (level - group.zero_point - q.weight[i] / group.scale);
      weight_gradient[i] = gradient;
    }
    if (scale_gradient && !group.constant) add_scale_gradient(q, begin, count, sum, weight_gradient);
  });
}

void apply_mask(const float* x, const uint8_t* mask, float* output, int64_t count) {
  for (int64_t i = 0; i < count; ++i) output[i] = (mask[i] ? x[i] : 0.0f) + 0.0f;  // no -0
}

}  // namespace usmlite::cpu::reference
