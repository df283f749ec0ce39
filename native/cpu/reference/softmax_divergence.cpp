#include "cpu/softmax_divergence.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace usmlite::cpu::reference {
namespace {

std::vector<double> log_softmax(const float* x, int64_t columns, double temperature) {
  const double largest = *std::max_element(x, x + columns);
  double sum = 0;
  for (int64_t i = 0; i < columns; ++i)
    sum += std::isfinite(x[i]) ? std::exp((x[i] - largest) / temperature) : std::numeric_limits<double>::quiet_NaN();
  std::vector<double> y(columns);
  for (int64_t i = 0; i < columns; ++i) y[i] = (x[i] - largest) / temperature - std::log(sum);
  return y;
}

}  // namespace

void softmax_divergence(const float* student, const float* teacher, int64_t rows, int64_t columns, float temperature, float* divergences,
                        float* gradient) {
  for (int64_t row = 0; row < rows; ++row) {
    const auto p = log_softmax(student + row * columns, columns, temperature), q = log_softmax(teacher + row * columns, columns, temperature);
    double sum = 0;
    for (int64_t i = 0; i < columns; ++i) {
      sum += std::exp(q[i]) * (q[i] - p[i]);
      if (gradient) gradient[row * columns + i] = static_cast<float>(std::exp(p[i]) - std::exp(q[i]));
    }
    divergences[row] = static_cast<float>(sum);
  }
}

}  // namespace usmlite::cpu::reference
