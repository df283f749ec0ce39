#include "cpu/gelu.hpp"

#include <cmath>
#include <numbers>

namespace usmlite::cpu::reference {

void gelu(const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = static_cast<float>(0.5 * x[i] * std::erfc(-x[i] / std::numbers::sqrt2));
}

}  // namespace usmlite::cpu::reference
