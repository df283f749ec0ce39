#include "cpu/subsampling_convolution.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/packed_matmul.hpp"

namespace usmlite::cpu::reference {
namespace {

// Calls body(output row, input row of tap k, k) for every output frame and tap.
template <typename Body>
void for_each_tap(const SubsamplingConvolution& c, Body&& body) {
  for (int64_t sequence = 0; sequence < c.sequences; ++sequence) {
    const int64_t begin = c.output_offsets[sequence], end = c.output_offsets[sequence + 1];
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t k = 0; k < c.kernel; ++k) body(row, c.offsets[sequence] + (row - begin) * c.stride + k, k);
    }
  }
}

}  // namespace

void subsampling_convolution(const SubsamplingConvolution& c, const float* x, const float* weight, const float* bias,
                             Activation activation, float* output) {
  for (int64_t at = 0; at < c.output_frames() * c.out; ++at) output[at] = bias ? bias[at % c.out] : 0.0f;
  for_each_tap(c, [&](int64_t row, int64_t frame, int64_t k) {
    for (int64_t o = 0; o < c.out; ++o) {
      for (int64_t i = 0; i < c.in; ++i) {
        output[row * c.out + o] += weight[(o * c.in + i) * c.kernel + k] * x[frame * c.in + i];
      }
    }
  });
  if (activation == Activation::kNone) return;
  for (int64_t at = 0; at < c.output_frames() * c.out; ++at) {
    const float sum = output[at];
    output[at] = activation == Activation::kSilu ? sum / (1.0f + std::exp(-sum)) : sum < 0.0f ? 0.0f : sum;
  }
}

void packed_subsampling_convolution(const SubsamplingConvolution& c, const float* x, const codec::PackedMatrix& weight,
                                    const float* bias, Activation activation, float* output) {
  std::vector<int64_t> starts(static_cast<size_t>(c.output_frames()));
  for_each_tap(c, [&](int64_t row, int64_t frame, int64_t k) {
    if (k == 0) starts[static_cast<size_t>(row)] = frame * c.in;
  });
  MatmulEpilogue epilogue;
  epilogue.bias = bias;
  epilogue.activation = activation;
  if (weight.spec().is_integer()) packed_matmul_int8(weight, c.output_frames(), x, output, epilogue, starts.data());
  else packed_matmul_float(weight, c.output_frames(), x, output, epilogue, starts.data());
}

void subsampling_convolution_input_gradient(const SubsamplingConvolution& c, const float* gradient,
                                            const float* weight, float* x_gradient) {
  std::fill_n(x_gradient, c.frames() * c.in, 0.0f);
  for_each_tap(c, [&](int64_t row, int64_t frame, int64_t k) {
    for (int64_t o = 0; o < c.out; ++o) {
      for (int64_t i = 0; i < c.in; ++i) {
        x_gradient[frame * c.in + i] += weight[(o * c.in + i) * c.kernel + k] * gradient[row * c.out + o];
      }
    }
  });
}

void subsampling_convolution_weight_gradient(const SubsamplingConvolution& c, const float* gradient, const float* x,
                                             float* weight_gradient) {
  std::fill_n(weight_gradient, c.out * c.in * c.kernel, 0.0f);
  for_each_tap(c, [&](int64_t row, int64_t frame, int64_t k) {
    for (int64_t o = 0; o < c.out; ++o) {
      for (int64_t i = 0; i < c.in; ++i) {
        weight_gradient[(o * c.in + i) * c.kernel + k] += gradient[row * c.out + o] * x[frame * c.in + i];
      }
    }
  });
}

}  // namespace usmlite::cpu::reference
