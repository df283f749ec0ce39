#include "cpu/fake_quantize.hpp"

#include <algorithm>
#include <cmath>

namespace usmlite::cpu::reference {
namespace {

struct Group {
  int64_t begin, end;   // elements of the weight
  int64_t largest;      // first element of the largest magnitude
  float scale;
  bool constant_scale;  // the scale does not depend on the weights: all are zero
};

float masked(const FakeQuantization& q, int64_t i) { return !q.mask || q.mask[i] ? q.weight[i] : 0.0f; }

template <typename Body>
void for_each_group(const FakeQuantization& q, Body&& body) {
  for (int64_t row = 0; row < q.rows; ++row) {
    for (int64_t column = 0; column < q.columns; column += q.group) {
      Group group{row * q.columns + column, row * q.columns + std::min(column + q.group, q.columns)};
      group.largest = group.begin;
      for (int64_t i = group.begin; i < group.end; ++i) {
        if (std::fabs(masked(q, i)) > std::fabs(masked(q, group.largest))) group.largest = i;
      }
      group.scale = std::fabs(masked(q, group.largest)) / q.limit;
      group.constant_scale = group.scale == 0.0f;
      if (group.constant_scale) group.scale = 1.0f;
      body(group);
    }
  }
}

}  // namespace

void fake_quantize(const FakeQuantization& q, float* output) {
  for_each_group(q, [&](const Group& group) {
    for (int64_t i = group.begin; i < group.end; ++i) {
      const float code = std::clamp(std::nearbyint(masked(q, i) / group.scale), -q.limit, q.limit);
      output[i] = (code + 0.0f) * group.scale;  // + 0: codes have no -0
    }
  });
}

void fake_quantize_backward(const FakeQuantization& q, const float* output_gradient, bool scale_gradient,
                            float* weight_gradient) {
  for_each_group(q, [&](const Group& group) {
    float sum = 0.0f;
    for (int64_t i = group.begin; i < group.end; ++i) {
      const float gradient = !q.mask || q.mask[i] ? output_gradient[i] : 0.0f;
      const float ratio = masked(q, i) / group.scale;
      sum += gradient * (std::nearbyint(ratio) - ratio);
      weight_gradient[i] = gradient;
    }
    if (scale_gradient && !group.constant_scale) {
      weight_gradient[group.largest] += (q.weight[group.largest] < 0.0f ? -sum : sum) / q.limit;
    }
  });
}

void apply_mask(const float* x, const uint8_t* mask, float* output, int64_t count) {
  for (int64_t i = 0; i < count; ++i) output[i] = (mask[i] ? x[i] : 0.0f) + 0.0f;  // no -0
}

}  // namespace usmlite::cpu::reference
