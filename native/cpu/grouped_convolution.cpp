#include "cpu/grouped_convolution.hpp"

#include <algorithm>

#include "core/allocator.hpp"
#include "cpu/matmul.hpp"

namespace usmlite::cpu::USMLITE_ISA {

namespace {

// Channels [first, first + width) of x(frames, channels) with zeros around them: the window of a frame is then one row.
void pad_group(const float* x, int64_t frames, int64_t channels, int64_t first, int64_t width, int64_t left, float* padded) {
  for (int64_t t = 0; t < frames; ++t) std::copy_n(x + t * channels + first, width, padded + (left + t) * width);
}

// to(in, kernel, out) = weight(out, kernel, in) of one group, taps in reverse
void turn(const float* weight, int64_t out, int64_t kernel, int64_t in, float* to) {
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t k = 0; k < kernel; ++k) {
      for (int64_t i = 0; i < in; ++i) to[(i * kernel + kernel - 1 - k) * out + o] = weight[(o * kernel + k) * in + i];
    }
  }
}

}  // namespace

void grouped_convolution(const GroupedConvolution& p, const float* x, const float* weight, const float* bias, float* y) {
  const int64_t width = p.group_in(), window = p.kernel * width;
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    const int64_t first = p.offsets[sequence], frames = p.offsets[sequence + 1] - first;
    if (frames == 0) continue;
    Scratch<float> padded(static_cast<size_t>((frames + p.kernel - 1) * width));
    std::fill_n(padded.data(), (frames + p.kernel - 1) * width, 0.0f);
    for (int64_t group = 0; group < p.groups; ++group) {
      pad_group(x + first * p.in, frames, p.in, group * width, width, p.left, padded.data());
      MatmulEpilogue epilogue;
      epilogue.bias = bias ? bias + group * p.group_out() : nullptr;
      matmul(false, true, frames, p.group_out(), window, padded.data(), width, weight + group * p.group_out() * window, window, 0.0f,
             y + first * p.out + group * p.group_out(), p.out, epilogue);
    }
  }
}

void grouped_convolution_backward(const GroupedConvolution& p, const float* x, const float* weight, const float* gradient,
                                  float* gradient_x, float* gradient_weight, float* gradient_bias) {
  const int64_t in = p.group_in(), out = p.group_out(), window = p.kernel * in;
  Scratch<float> turned(static_cast<size_t>(p.kernel * in * out));
  for (int64_t group = 0; group < p.groups; ++group) {
    if (gradient_x) turn(weight + group * out * window, out, p.kernel, in, turned.data());
    for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
      const int64_t first = p.offsets[sequence], frames = p.offsets[sequence + 1] - first, padded_frames = frames + p.kernel - 1;
      if (frames == 0) continue;
      const float* rows = gradient + first * p.out + group * out;
      if (gradient_bias) {
        for (int64_t t = 0; t < frames; ++t) {
          for (int64_t o = 0; o < out; ++o) gradient_bias[group * out + o] += rows[t * p.out + o];
        }
      }
      if (gradient_weight) {
        Scratch<float> padded(static_cast<size_t>(padded_frames * in));
        std::fill_n(padded.data(), padded_frames * in, 0.0f);
        pad_group(x + first * p.in, frames, p.in, group * in, in, p.left, padded.data());
        matmul(true, false, out, window, frames, rows, p.out, padded.data(), in, 1.0f, gradient_weight + group * out * window, window);
      }
      if (gradient_x) {
        Scratch<float> padded(static_cast<size_t>(padded_frames * out));
        std::fill_n(padded.data(), padded_frames * out, 0.0f);
        pad_group(gradient + first * p.out, frames, p.out, group * out, out, p.kernel - 1 - p.left, padded.data());
        matmul(false, true, frames, in, p.kernel * out, padded.data(), out, turned.data(), p.kernel * out, 0.0f,
               gradient_x + first * p.in + group * in, p.in);
      }
    }
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
