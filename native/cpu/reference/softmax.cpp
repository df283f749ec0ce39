#include "cpu/softmax.hpp"

#include <algorithm>
#include <cmath>

namespace usmlite::cpu::reference {
namespace {

// log(sum(exp(x)))
double log_sum(const float* x, int64_t columns) {
  const double maximum = *std::max_element(x, x + columns);
  double sum = 0.0;
  for (int64_t i = 0; i < columns; ++i) sum += std::exp(x[i] - maximum);
  return maximum + std::log(sum);
}

}  // namespace

void softmax_forward(const float* x, float* y, int64_t rows, int64_t columns) {
  for (; rows > 0; --rows, x += columns, y += columns) {
    const double normalizer = log_sum(x, columns);
    for (int64_t i = 0; i < columns; ++i) y[i] = static_cast<float>(std::exp(x[i] - normalizer));
  }
}

void softmax_backward(const float* y, const float* gradient, float* gradient_x, int64_t rows, int64_t columns) {
  for (; rows > 0; --rows, y += columns, gradient += columns, gradient_x += columns) {
    double mean = 0.0;
    for (int64_t i = 0; i < columns; ++i) mean += gradient[i] * y[i];
    for (int64_t i = 0; i < columns; ++i) gradient_x[i] = static_cast<float>(y[i] * (gradient[i] - mean));
  }
}

void log_softmax_forward(const float* x, float* y, int64_t rows, int64_t columns) {
  for (; rows > 0; --rows, x += columns, y += columns) {
    const double normalizer = log_sum(x, columns);
    for (int64_t i = 0; i < columns; ++i) y[i] = static_cast<float>(x[i] - normalizer);
  }
}

void log_softmax_backward(const float* y, const float* gradient, float* gradient_x, int64_t rows, int64_t columns) {
  for (; rows > 0; --rows, y += columns, gradient += columns, gradient_x += columns) {
    double sum = 0.0;
    for (int64_t i = 0; i < columns; ++i) sum += gradient[i];
    for (int64_t i = 0; i < columns; ++i) gradient_x[i] = static_cast<float>(gradient[i] - std::exp(y[i]) * sum);
  }
}

}  // namespace usmlite::cpu::reference
