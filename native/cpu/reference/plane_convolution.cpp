#include "cpu/plane_convolution.hpp"

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

}  // namespace usmlite::cpu::reference
