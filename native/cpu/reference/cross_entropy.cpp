#include "cpu/cross_entropy.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace usmlite::cpu::reference {

void cross_entropy(const float* logits, const int32_t* labels, int64_t rows, int64_t columns, float smoothing, float* losses,
                   float* gradient) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* x = logits + row * columns;
    const int32_t label = labels[row];
    const double largest = *std::max_element(x, x + columns);
    double sum = 0.0, loss = 0.0;
    for (int64_t i = 0; i < columns; ++i) sum += std::isfinite(x[i]) ? std::exp(x[i] - largest) : std::numeric_limits<double>::quiet_NaN();
    for (int64_t i = 0; i < columns; ++i) {
      const double wanted = static_cast<double>(smoothing) / columns + (i == label ? 1.0 - smoothing : 0.0);
      const double logarithm = x[i] - largest - std::log(sum);
      if (label >= 0) loss -= wanted * logarithm;
      if (gradient) gradient[row * columns + i] = label < 0 ? 0.0f : static_cast<float>(std::exp(logarithm) - wanted);
    }
    losses[row] = static_cast<float>(loss);
  }
}

}  // namespace usmlite::cpu::reference
