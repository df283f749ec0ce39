#include "cpu/grouped_convolution.hpp"

#include <algorithm>

namespace usmlite::cpu::reference {

void grouped_convolution(const GroupedConvolution& p, const float* x, const float* weight, const float* bias, float* y) {
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    const int64_t begin = p.offsets[sequence], end = p.offsets[sequence + 1];
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t o = 0; o < p.out; ++o) {
        double sum = bias ? bias[o] : 0.0;
        for (int64_t k = 0; k < p.kernel; ++k) {
          const int64_t from = t + k - p.left;
          if (from < begin || from >= end) continue;
          for (int64_t i = 0; i < p.group_in(); ++i) {
            sum += static_cast<double>(weight[(o * p.kernel + k) * p.group_in() + i]) *
                   x[from * p.in + o / p.group_out() * p.group_in() + i];
          }
        }
        y[t * p.out + o] = static_cast<float>(sum);
      }
    }
  }
}

void grouped_convolution_backward(const GroupedConvolution& p, const float* x, const float* weight, const float* gradient,
                                  float* gradient_x, float* gradient_weight, float* gradient_bias) {
  if (gradient_x) std::fill_n(gradient_x, p.offsets[p.sequences] * p.in, 0.0f);
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    const int64_t begin = p.offsets[sequence], end = p.offsets[sequence + 1];
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t o = 0; o < p.out; ++o) {
        const float above = gradient[t * p.out + o];
        if (gradient_bias) gradient_bias[o] += above;
        for (int64_t k = 0; k < p.kernel; ++k) {
          const int64_t from = t + k - p.left;
          if (from < begin || from >= end) continue;
          for (int64_t i = 0; i < p.group_in(); ++i) {
            const int64_t tap = (o * p.kernel + k) * p.group_in() + i, at = from * p.in + o / p.group_out() * p.group_in() + i;
            if (gradient_weight) gradient_weight[tap] += above * x[at];
            if (gradient_x) gradient_x[at] += above * weight[tap];
          }
        }
      }
    }
  }
}

}  // namespace usmlite::cpu::reference
