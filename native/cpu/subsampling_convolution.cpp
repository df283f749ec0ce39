#include "cpu/subsampling_convolution.hpp"

#include <algorithm>

#include "codec/window_order.hpp"
#include "core/allocator.hpp"
#include "cpu/matmul.hpp"
#include "cpu/packed_matmul.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

using codec::swap_last_axes;

// Where the window of every output frame begins in x (frames, in). The window is one row of kernel * in elements,
// because frames follow each other.
void window_starts(const SubsamplingConvolution& c, int64_t* starts) {
  for (int64_t sequence = 0; sequence < c.sequences; ++sequence) {
    const int64_t begin = c.output_offsets[sequence], end = c.output_offsets[sequence + 1];
    for (int64_t row = begin; row < end; ++row) {
      starts[row] = (c.offsets[sequence] + (row - begin) * c.stride) * c.in;
    }
  }
}

}  // namespace

void subsampling_convolution(const SubsamplingConvolution& c, const float* x, const float* weight, const float* bias,
                             Activation activation, float* output) {
  const int64_t window = c.kernel * c.in;
  Scratch<int64_t> starts(static_cast<size_t>(c.output_frames()));
  Scratch<float> by_tap(static_cast<size_t>(c.out * window));  // (out, kernel, in)
  window_starts(c, starts.data());
  swap_last_axes(weight, c.out, c.in, c.kernel, by_tap.data());
  MatmulEpilogue epilogue;
  epilogue.bias = bias;
  epilogue.activation = activation;
  MatmulRows rows;
  rows.a = starts.data();
  matmul(false, true, c.output_frames(), c.out, window, x, 0, by_tap.data(), window, 0.0f, output, c.out, epilogue,
         rows);
}

void packed_subsampling_convolution(const SubsamplingConvolution& c, const float* x, const codec::PackedMatrix& weight,
                                    const float* bias, Activation activation, float* output) {
  Scratch<int64_t> starts(static_cast<size_t>(c.output_frames()));
  window_starts(c, starts.data());
  MatmulEpilogue epilogue;
  epilogue.bias = bias;
  epilogue.activation = activation;
  // Through the dispatcher: of products of whole numbers there are more variants than of this file.
  if (weight.spec().is_integer()) ::usmlite::cpu::packed_matmul_int8(weight, c.output_frames(), x, output, epilogue, starts.data());
  else USMLITE_ISA::packed_matmul_float(weight, c.output_frames(), x, output, epilogue, starts.data());
}

void subsampling_convolution_input_gradient(const SubsamplingConvolution& c, const float* gradient,
                                            const float* weight, float* x_gradient) {
  const int64_t window = c.kernel * c.in, step = c.stride * c.in;
  Scratch<int64_t> starts(static_cast<size_t>(c.output_frames()));
  Scratch<float> by_tap(static_cast<size_t>(c.out * window));
  window_starts(c, starts.data());
  swap_last_axes(weight, c.out, c.in, c.kernel, by_tap.data());
  std::fill_n(x_gradient, c.frames() * c.in, 0.0f);
  // Windows overlap, but the parts of them that are `stride` frames wide do not: each is one product added in place.
  MatmulRows rows;
  rows.c = starts.data();
  for (int64_t begin = 0; begin < window; begin += step) {
    matmul(false, false, c.output_frames(), std::min(step, window - begin), c.out, gradient, c.out,
           by_tap.data() + begin, window, 1.0f, x_gradient + begin, 0, {}, rows);
  }
}

void subsampling_convolution_weight_gradient(const SubsamplingConvolution& c, const float* gradient, const float* x,
                                             float* weight_gradient) {
  const int64_t window = c.kernel * c.in;
  Scratch<int64_t> starts(static_cast<size_t>(c.output_frames()));
  Scratch<float> by_tap(static_cast<size_t>(c.out * window));
  window_starts(c, starts.data());
  MatmulRows rows;
  rows.b = starts.data();
  matmul(true, false, c.out, window, c.output_frames(), gradient, c.out, x, 0, 0.0f, by_tap.data(), window, {}, rows);
  swap_last_axes(by_tap.data(), c.out, c.kernel, c.in, weight_gradient);
}

}  // namespace usmlite::cpu::USMLITE_ISA
