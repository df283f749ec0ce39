#include "cpu/plane_convolution.hpp"

#include <algorithm>
#include <vector>

namespace usmlite::cpu::reference {

void plane_convolution(const PlaneConvolution& p, const float* x, const float* weight, const float* bias, float* y) {
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    const int64_t first = p.offsets[sequence], frames = p.offsets[sequence + 1] - first;
    const int64_t output = p.output_offsets[sequence], count = p.output_offsets[sequence + 1] - output;
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t f = 0; f < p.output_features; ++f) {
        for (int64_t c = 0; c < p.channels; ++c) {
          float sum = bias[c];
          for (int64_t i = 0; i < p.kernel; ++i) {
            for (int64_t j = 0; j < p.kernel; ++j) {
              const int64_t frame = t * p.stride + i - p.padding, feature = f * p.stride + j - p.padding;
              if (frame < 0 || frame >= frames || feature < 0 || feature >= p.features) continue;
              const int64_t from = ((first + frame) * p.features + feature) * p.input_channels() + (p.shared_input ? 0 : c);
              sum += weight[(c * p.kernel + i) * p.kernel + j] * x[from];
            }
          }
          y[((output + t) * p.output_features + f) * p.channels + c] = p.relu && sum < 0.0f ? 0.0f : sum;
        }
      }
    }
  }
}

void plane_convolution_backward(const PlaneConvolution& p, const float* x, const float* y, const float* weight, const float* gradient,
                                float* gradient_x, float* gradient_weight, float* gradient_bias) {
  const int64_t taps = p.kernel * p.kernel;
  std::vector<double> weights(p.channels * taps, 0.0), biases(p.channels, 0.0);
  std::vector<double> inputs(gradient_x ? p.offsets[p.sequences] * p.features * p.input_channels() : 0, 0.0);
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    const int64_t first = p.offsets[sequence], frames = p.offsets[sequence + 1] - first;
    const int64_t output = p.output_offsets[sequence], count = p.output_offsets[sequence + 1] - output;
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t f = 0; f < p.output_features; ++f) {
        for (int64_t c = 0; c < p.channels; ++c) {
          const int64_t at = ((output + t) * p.output_features + f) * p.channels + c;
          const double above = p.relu && !(y[at] > 0.0f) ? 0.0 : gradient[at];
          biases[c] += above;
          for (int64_t tap = 0; tap < taps; ++tap) {
            const int64_t frame = t * p.stride + tap / p.kernel - p.padding, feature = f * p.stride + tap % p.kernel - p.padding;
            if (frame < 0 || frame >= frames || feature < 0 || feature >= p.features) continue;
            const int64_t from = ((first + frame) * p.features + feature) * p.input_channels() + (p.shared_input ? 0 : c);
            weights[c * taps + tap] += above * x[from];
            if (gradient_x) inputs[from] += above * weight[c * taps + tap];
          }
        }
      }
    }
  }
  std::copy(weights.begin(), weights.end(), gradient_weight);
  std::copy(biases.begin(), biases.end(), gradient_bias);
  if (gradient_x) std::copy(inputs.begin(), inputs.end(), gradient_x);
}

}  // namespace usmlite::cpu::reference
