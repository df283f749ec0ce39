#include "cpu/depthwise_convolution.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace usmlite::cpu::reference {
namespace {

// Calls body(t, k, source frame) for every tap that lies inside its sequence.
template <typename Body>
void for_each_tap(const DepthwiseShape& s, const Body& body) {
  for (int64_t sequence = 0; sequence < s.sequences; ++sequence) {
    const int64_t begin = s.offsets[sequence], end = s.offsets[sequence + 1];
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t k = 0; k < s.kernel; ++k) {
        const int64_t from = t + k - s.left;
        if (from >= begin && from < end) body(t, k, from);
      }
    }
  }
}

}  // namespace

void depthwise_forward(const DepthwiseShape& s, const float* x, const float* weight, const float* bias, bool silu,
                       float* y) {
  const int64_t frames = s.offsets[s.sequences];
  for (int64_t c = 0; c < s.channels; ++c) {
    for (int64_t t = 0; t < frames; ++t) y[t * s.channels + c] = bias ? bias[c] : 0.0f;
    for_each_tap(s, [&](int64_t t, int64_t k, int64_t from) {
      y[t * s.channels + c] += weight[c * s.kernel + k] * x[from * s.channels + c];
    });
    for (int64_t t = 0; silu && t < frames; ++t) {
      float& value = y[t * s.channels + c];
      value = value / (1.0f + std::exp(-value));
    }
  }
}

void depthwise_backward(const DepthwiseShape& s, const float* x, const float* weight, const float* gradient,
                        float* gradient_x, float* gradient_weight, float* gradient_bias) {
  const int64_t frames = s.offsets[s.sequences];
  if (gradient_x) std::fill_n(gradient_x, frames * s.channels, 0.0f);
  std::vector<double> taps(s.kernel);
  for (int64_t c = 0; c < s.channels; ++c) {
    std::fill(taps.begin(), taps.end(), 0.0);
    for_each_tap(s, [&](int64_t t, int64_t k, int64_t from) {
      const float g = gradient[t * s.channels + c];
      if (gradient_x) gradient_x[from * s.channels + c] += g * weight[c * s.kernel + k];
      taps[k] += static_cast<double>(g) * x[from * s.channels + c];
    });
    for (int64_t k = 0; gradient_weight && k < s.kernel; ++k) {
      gradient_weight[c * s.kernel + k] = static_cast<float>(taps[k]);
    }
    double sum = 0.0;
    for (int64_t t = 0; t < frames; ++t) sum += gradient[t * s.channels + c];
    if (gradient_bias) gradient_bias[c] = static_cast<float>(sum);
  }
}

}  // namespace usmlite::cpu::reference
