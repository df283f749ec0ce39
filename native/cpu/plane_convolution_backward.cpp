#include <algorithm>
#include <vector>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/plane_convolution.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// Gradients of y where relu let values through; y tells where.
void pass_relu(const float* y, const float* gradient, int64_t begin, int64_t end, float* to) {
  for_each_vector(end - begin, [&](int64_t i, int64_t lanes) {
    const int64_t at = begin + i;
    select_greater(Vector::load(y + at, lanes), Vector::zero(), Vector::load(gradient + at, lanes), Vector::zero()).store(to + at, lanes);
  });
}

// Weights and biases of channels [c, c + lanes).
void weights_of(const PlaneConvolution& p, const float* x, const float* gradient, int64_t c, int64_t lanes, float* gradient_weight,
                float* gradient_bias) {
  const int64_t taps = p.kernel * p.kernel, width = p.input_channels();
  std::vector<Vector> sums(taps, Vector::zero());
  Vector bias = Vector::zero();
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    const int64_t first = p.offsets[sequence], frames = p.offsets[sequence + 1] - first, output = p.output_offsets[sequence];
    for (int64_t t = 0; t < p.output_offsets[sequence + 1] - output; ++t) {
      for (int64_t f = 0; f < p.output_features; ++f) {
        const Vector above = Vector::load(gradient + ((output + t) * p.output_features + f) * p.channels + c, lanes);
        bias = bias + above;
        for (int64_t i = 0; i < p.kernel; ++i) {
          const int64_t frame = t * p.stride + i - p.padding;
          if (frame < 0 || frame >= frames) continue;
          for (int64_t j = 0; j < p.kernel; ++j) {
            const int64_t feature = f * p.stride + j - p.padding;
            if (feature < 0 || feature >= p.features) continue;
            const float* from = x + ((first + frame) * p.features + feature) * width;
            const Vector value = p.shared_input ? Vector::all(*from) : Vector::load(from + c, lanes);
            sums[i * p.kernel + j] = multiply_add(above, value, sums[i * p.kernel + j]);
          }
        }
      }
    }
  }
  bias.store(gradient_bias + c, lanes);
  float values[Vector::kLanes];
  for (int64_t tap = 0; tap < taps; ++tap) {
    sums[tap].store(values);
    for (int64_t lane = 0; lane < lanes; ++lane) gradient_weight[(c + lane) * taps + tap] = values[lane];
  }
}

// One input frame: all outputs whose kernels reach it. `taps` is (kernel * kernel, channels).
void input_frame(const PlaneConvolution& p, int64_t frame, int64_t outputs, const float* gradient, const float* taps, float* to) {
  for (int64_t feature = 0; feature < p.features; ++feature, to += p.input_channels()) {
    float shared = 0.0f;
    for_each_vector(p.channels, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
      Vector sum = Vector::zero();
      for (int64_t i = 0; i < p.kernel; ++i) {
        const int64_t t = frame + p.padding - i;
        if (t < 0 || t % p.stride != 0 || t / p.stride >= outputs) continue;
        for (int64_t j = 0; j < p.kernel; ++j) {
          const int64_t f = feature + p.padding - j;
          if (f < 0 || f % p.stride != 0 || f / p.stride >= p.output_features) continue;
          const Vector above = Vector::load(gradient + ((t / p.stride) * p.output_features + f / p.stride) * p.channels + c, lanes);
          sum = multiply_add(Vector::load(taps + (i * p.kernel + j) * p.channels + c, lanes), above, sum);
        }
      }
      if (p.shared_input) shared += sum.sum();
      else sum.store(to + c, lanes);
    });
    if (p.shared_input) *to = shared;
  }
}

}  // namespace

void plane_convolution_backward(const PlaneConvolution& p, const float* x, const float* y, const float* weight, const float* gradient,
                                float* gradient_x, float* gradient_weight, float* gradient_bias) {
  const int64_t taps = p.kernel * p.kernel, row = p.output_features * p.channels, outputs = p.output_offsets[p.sequences];
  Scratch<float> passed(p.relu ? outputs * row : 0);
  if (p.relu) {
    parallel_for(outputs, 1, [&](int64_t begin, int64_t end) { pass_relu(y, gradient, begin * row, end * row, passed.data()); });
    gradient = passed.data();
  }
  const int64_t lanes = Vector::kLanes;
  parallel_dynamic((p.channels + lanes - 1) / lanes, [&](int64_t chunk) {
    weights_of(p, x, gradient, chunk * lanes, std::min(lanes, p.channels - chunk * lanes), gradient_weight, gradient_bias);
  });
  if (!gradient_x) return;
  Scratch<float> by_tap(taps * p.channels);
  for (int64_t c = 0; c < p.channels; ++c) {
    for (int64_t k = 0; k < taps; ++k) by_tap[k * p.channels + c] = weight[c * taps + k];
  }
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    const int64_t first = p.offsets[sequence], output = p.output_offsets[sequence], count = p.output_offsets[sequence + 1] - output;
    parallel_for(p.offsets[sequence + 1] - first, 1, [&](int64_t begin, int64_t end) {
      for (int64_t frame = begin; frame < end; ++frame) {
        input_frame(p, frame, count, gradient + output * row, by_tap.data(), gradient_x + (first + frame) * p.features * p.input_channels());
      }
    });
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
