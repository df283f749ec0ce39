#include "cpu/plane_convolution.hpp"

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// One output frame of a sequence of `frames` frames that begins at x. `taps` is (kernel * kernel, channels).
void output_frame(const PlaneConvolution& p, int64_t t, int64_t frames, const float* x, const float* taps, const float* bias, float* y) {
  const int64_t width = p.input_channels();
  for (int64_t f = 0; f < p.output_features; ++f, y += p.channels) {
    for_each_vector(p.channels, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
      Vector sum = Vector::load(bias + c, lanes);
      for (int64_t i = 0; i < p.kernel; ++i) {
        const int64_t frame = t * p.stride + i - p.padding;
        if (frame < 0 || frame >= frames) continue;
        for (int64_t j = 0; j < p.kernel; ++j) {
          const int64_t feature = f * p.stride + j - p.padding;
          if (feature < 0 || feature >= p.features) continue;
          const float* from = x + (frame * p.features + feature) * width;
          const Vector value = p.shared_input ? Vector::all(*from) : Vector::load(from + c, lanes);
          sum = multiply_add(Vector::load(taps + (i * p.kernel + j) * p.channels + c, lanes), value, sum);
        }
      }
      if (p.relu) sum = maximum(Vector::zero(), sum);
      sum.store(y + c, lanes);
    });
  }
}

}  // namespace

void plane_convolution(const PlaneConvolution& p, const float* x, const float* weight, const float* bias, float* y) {
  const int64_t taps = p.kernel * p.kernel;
  Scratch<float> by_tap(static_cast<size_t>(taps * p.channels));
  for (int64_t c = 0; c < p.channels; ++c) {
    for (int64_t k = 0; k < taps; ++k) by_tap[k * p.channels + c] = weight[c * taps + k];
  }
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    const int64_t first = p.offsets[sequence], frames = p.offsets[sequence + 1] - first;
    const int64_t output = p.output_offsets[sequence];
    parallel_for(p.output_offsets[sequence + 1] - output, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        output_frame(p, t, frames, x + first * p.features * p.input_channels(), by_tap.data(), bias,
                     y + (output + t) * p.output_features * p.channels);
      }
    });
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
