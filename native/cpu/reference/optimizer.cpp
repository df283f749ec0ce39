#include "cpu/optimizer.hpp"

#include <cmath>

namespace usmlite::cpu::reference {

void adamw(const AdamWParameter* parameters, int64_t tensors, const AdamWStep& step) {
  for (int64_t i = 0; i < tensors; ++i) {
    const AdamWParameter& p = parameters[i];
    for (int64_t j = 0; j < p.count; ++j) {
      const float g = step.gradient_scale * p.gradient[j];
      p.first_moment[j] = step.beta1 * p.first_moment[j] + (1 - step.beta1) * g;
      p.second_moment[j] = step.beta2 * p.second_moment[j] + (1 - step.beta2) * g * g;
      const float update = p.first_moment[j] / step.first_correction /
                           (std::sqrt(p.second_moment[j] / step.second_correction) + step.epsilon);
      p.value[j] = p.value[j] * (1 - p.learning_rate * p.weight_decay) - p.learning_rate * update;
    }
  }
}

double sum_of_squares(const Span* spans, int64_t tensors) {
  double sum = 0;
  for (int64_t i = 0; i < tensors; ++i) {
    for (int64_t j = 0; j < spans[i].count; ++j) sum += static_cast<double>(spans[i].values[j]) * spans[i].values[j];
  }
  return sum;
}

void update_average(const AverageParameter* parameters, int64_t tensors, float decay) {
  for (int64_t i = 0; i < tensors; ++i) {
    const AverageParameter& p = parameters[i];
    for (int64_t j = 0; j < p.count; ++j) p.average[j] = decay * p.average[j] + (1 - decay) * p.value[j];
  }
}

}  // namespace usmlite::cpu::reference
