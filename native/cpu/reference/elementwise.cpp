#include "cpu/elementwise.hpp"

namespace usmlite::cpu::reference {

void add_in_place(const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] += x[i];
}

void scaled_sum(const float* x, float a, const float* y_in, float b, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = a * x[i] + b * y_in[i];
}

}  // namespace usmlite::cpu::reference
