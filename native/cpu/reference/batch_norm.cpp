#include "cpu/batch_norm.hpp"

#include <cmath>

#include "cpu/reference/sigmoid.hpp"

namespace usmlite::cpu::reference {
namespace {

// Mean and biased variance of one channel of this batch; updates the running ones.
void measure(const BatchNormForward& p, int64_t c, double& mean, double& variance) {
  mean = variance = 0.0;
  for (int64_t t = 0; t < p.frames; ++t) mean += p.x[t * p.channels + c] / static_cast<double>(p.frames);
  for (int64_t t = 0; t < p.frames; ++t) {
    const double difference = p.x[t * p.channels + c] - mean;
    variance += difference * difference / static_cast<double>(p.frames);
  }
  const double unbiased = variance * p.frames / (p.frames - 1);
  p.running_mean[c] = static_cast<float>((1.0 - p.momentum) * p.running_mean[c] + p.momentum * mean);
  p.running_variance[c] = static_cast<float>((1.0 - p.momentum) * p.running_variance[c] + p.momentum * unbiased);
}

}  // namespace

void batch_norm_forward(const BatchNormForward& p) {
  for (int64_t c = 0; c < p.channels; ++c) {
    double mean = p.running_mean[c], variance = p.running_variance[c];
    if (p.training) measure(p, c, mean, variance);
    p.mean[c] = static_cast<float>(mean);
    p.reciprocal_deviation[c] = static_cast<float>(1.0 / std::sqrt(variance + p.epsilon));
    for (int64_t t = 0; t < p.frames; ++t) {
      const double normal = (p.x[t * p.channels + c] - mean) * p.reciprocal_deviation[c];
      const double z = normal * p.weight[c] + p.bias[c];
      p.y[t * p.channels + c] = static_cast<float>(p.silu ? z * sigmoid(z) : z);
    }
  }
}

void batch_norm_backward(const BatchNormBackward& p) {
  for (int64_t c = 0; c < p.channels; ++c) {
    const auto normal = [&](int64_t t) {
      return (static_cast<double>(p.x[t * p.channels + c]) - p.mean[c]) * p.reciprocal_deviation[c];
    };
    const auto gradient = [&](int64_t t) {  // before the activation
      const double z = normal(t) * p.weight[c] + p.bias[c], s = sigmoid(z);
      return p.gradient[t * p.channels + c] * (p.silu ? s * (1.0 + z * (1.0 - s)) : 1.0);
    };
    double sum = 0.0, product = 0.0;
    for (int64_t t = 0; t < p.frames; ++t) {
      sum += gradient(t);
      product += gradient(t) * normal(t);
    }
    p.gradient_bias[c] = static_cast<float>(sum);
    p.gradient_weight[c] = static_cast<float>(product);
    const double share = p.training ? 1.0 / static_cast<double>(p.frames) : 0.0;
    for (int64_t t = 0; t < p.frames; ++t) {
      p.gradient_x[t * p.channels + c] =
          static_cast<float>(p.weight[c] * p.reciprocal_deviation[c] *
                             (gradient(t) - share * sum - share * product * normal(t)));
    }
  }
}

}  // namespace usmlite::cpu::reference
