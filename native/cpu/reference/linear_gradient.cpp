#include "cpu/linear_gradient.hpp"

#include <algorithm>
#include <cmath>

namespace usmlite::cpu::reference {
namespace {

float slope(float x, Activation activation) {
  if (activation == Activation::kNone) return 1.0f;
  if (activation == Activation::kRelu) return x > 0.0f ? 1.0f : 0.0f;
  const float s = 1.0f / (1.0f + std::exp(-x));
  return s * (1.0f + x * (1.0f - s));  // d/dx x s(x), with s' = s (1 - s)
}

}  // namespace

void linear_gradient(const LinearGradient& layer, float* sum_gradient, float* bias_gradient) {
  if (bias_gradient) std::fill_n(bias_gradient, layer.features, 0.0f);
  for (int64_t at = 0; at < layer.frames * layer.features; ++at) {
    float value = layer.gradient[at] * layer.scale;
    if (layer.activation != Activation::kNone) value *= slope(layer.pre_activation[at], layer.activation);
    value *= layer.dropout.multiplier(at);
    if (sum_gradient) sum_gradient[at] = value;
    if (bias_gradient) bias_gradient[at % layer.features] += value;
  }
}

}  // namespace usmlite::cpu::reference
