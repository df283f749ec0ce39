#include "cpu/layer_norm.hpp"

#include <cmath>
#include <vector>

namespace usmlite::cpu::reference {
namespace {

struct Moments {
  double mean, reciprocal_deviation;
};

Moments moments(const float* row, int64_t hidden, float epsilon) {
  double mean = 0.0, variance = 0.0;
  for (int64_t i = 0; i < hidden; ++i) mean += row[i];
  mean /= hidden;
  for (int64_t i = 0; i < hidden; ++i) variance += (row[i] - mean) * (row[i] - mean);
  return {mean, 1.0 / std::sqrt(variance / hidden + epsilon)};
}

}  // namespace

void layer_norm_forward(const LayerNormForward& p) {
  for (int64_t frame = 0; frame < p.frames; ++frame) {
    const int64_t at = frame * p.hidden;
    const float* row = p.x + at;
    if (p.y) {
      for (int64_t i = 0; i < p.hidden; ++i) p.sum[at + i] = p.a * p.x[at + i] + p.b * p.y[at + i];
      row = p.sum + at;
    }
    const Moments m = moments(row, p.hidden, p.epsilon);
    for (int64_t i = 0; i < p.hidden; ++i) {
      p.normalized[at + i] =
          static_cast<float>((row[i] - m.mean) * m.reciprocal_deviation) * p.weight[i] + (p.bias ? p.bias[i] : 0.0f);
    }
  }
}

void layer_norm_backward(const LayerNormBackward& p) {
  std::vector<double> weight(p.hidden, 0.0), bias(p.hidden, 0.0);
  for (int64_t frame = 0; frame < p.frames; ++frame) {
    const int64_t at = frame * p.hidden;
    const float* row = p.sum + at;
    const Moments m = moments(row, p.hidden, p.epsilon);
    const auto normal = [&](int64_t i) { return (row[i] - m.mean) * m.reciprocal_deviation; };
    const auto gradient = [&](int64_t i) { return p.gradient_normalized ? p.gradient_normalized[at + i] : 0.0; };
    double mean_gradient = 0.0, mean_product = 0.0;
    for (int64_t i = 0; i < p.hidden; ++i) {
      mean_gradient += gradient(i) * p.weight[i] / p.hidden;
      mean_product += gradient(i) * p.weight[i] * normal(i) / p.hidden;
      weight[i] += gradient(i) * normal(i);
      bias[i] += gradient(i);
    }
    for (int64_t i = 0; i < p.hidden; ++i) {
      const double through = gradient(i) * p.weight[i] - mean_gradient - normal(i) * mean_product;
      const double total = through * m.reciprocal_deviation + (p.gradient_sum ? p.gradient_sum[at + i] : 0.0);
      if (p.gradient_x) p.gradient_x[at + i] = static_cast<float>(p.a * total);
      if (p.gradient_y) p.gradient_y[at + i] = static_cast<float>(p.b * total);
    }
  }
  for (int64_t i = 0; i < p.hidden; ++i) {
    if (p.gradient_weight) p.gradient_weight[i] = static_cast<float>(weight[i]);
    if (p.gradient_bias) p.gradient_bias[i] = static_cast<float>(bias[i]);
  }
}

}  // namespace usmlite::cpu::reference
