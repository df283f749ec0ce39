#include "cpu/instance_norm.hpp"

#include <cmath>

namespace usmlite::cpu::reference {

void instance_norm(const float* x, const int32_t* offsets, int64_t sequences, int64_t channels, const float* weight,
                   const float* bias, float epsilon, float* y) {
  for (int64_t sequence = 0; sequence < sequences; ++sequence) {
    const int64_t begin = offsets[sequence], end = offsets[sequence + 1];
    for (int64_t c = 0; c < channels; ++c) {
      double mean = 0.0, variance = 0.0;
      for (int64_t t = begin; t < end; ++t) mean += x[t * channels + c];
      mean /= static_cast<double>(end - begin);
      for (int64_t t = begin; t < end; ++t) variance += (x[t * channels + c] - mean) * (x[t * channels + c] - mean);
      variance /= static_cast<double>(end - begin);
      const double factor = weight[c] / std::sqrt(variance + epsilon);
      for (int64_t t = begin; t < end; ++t) y[t * channels + c] = static_cast<float>((x[t * channels + c] - mean) * factor + bias[c]);
    }
  }
}

}  // namespace usmlite::cpu::reference
