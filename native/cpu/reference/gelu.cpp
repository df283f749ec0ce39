#include "cpu/gelu.hpp"

#include <cmath>
#include <numbers>

namespace usmlite::cpu::reference {

void gelu(const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = static_cast<float>(0.5 * x[i] * std::erfc(-x[i] / std::numbers::sqrt2));
}

void gelu_backward(const float* x, const float* gradient, float* gradient_x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const double density = std::exp(-0.5 * x[i] * x[i]) / std::sqrt(2 * std::numbers::pi);
    gradient_x[i] = static_cast<float>(gradient[i] * (0.5 * std::erfc(-x[i] / std::numbers::sqrt2) + x[i] * density));
  }
}

}  // namespace usmlite::cpu::reference
