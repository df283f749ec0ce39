#include "cpu/activation.hpp"

#include "cpu/reference/sigmoid.hpp"

namespace usmlite::cpu::reference {

void silu_forward(const float* x, const Dropout& dropout, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = static_cast<float>(x[i] * sigmoid(x[i])) * dropout.multiplier(i);
}

void silu_backward(const float* x, const float* gradient, const Dropout& dropout, float* gradient_x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const double s = sigmoid(x[i]);
    gradient_x[i] = gradient[i] * dropout.multiplier(i) * static_cast<float>(s * (1.0 + x[i] * (1.0 - s)));
  }
}

void relu_forward(const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = x[i] < 0.0f ? 0.0f : x[i];
}

void apply_dropout(const float* x, const Dropout& dropout, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = x[i] * dropout.multiplier(i);
}

void glu_forward(const float* x, float* y, int64_t frames, int64_t channels) {
  for (int64_t frame = 0; frame < frames; ++frame) {
    const float* value = x + frame * 2 * channels;
    const float* gate = value + channels;
    for (int64_t c = 0; c < channels; ++c) y[frame * channels + c] = static_cast<float>(value[c] * sigmoid(gate[c]));
  }
}

void glu_backward(const float* x, const float* gradient, float* gradient_x, int64_t frames, int64_t channels) {
  for (int64_t frame = 0; frame < frames; ++frame) {
    const float* value = x + frame * 2 * channels;
    const float* gate = value + channels;
    float* to = gradient_x + frame * 2 * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const double g = gradient[frame * channels + c], s = sigmoid(gate[c]);
      to[c] = static_cast<float>(g * s);
      to[channels + c] = static_cast<float>(g * value[c] * s * (1.0 - s));
    }
  }
}

}  // namespace usmlite::cpu::reference
