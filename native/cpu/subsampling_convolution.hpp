// Strided convolution along the frames of packed sequences, as matrix products over overlapping rows.
#pragma once
#include <cstdint>

#include "codec/packed_matrix.hpp"
#include "core/instruction_set.hpp"
#include "cpu/matmul_epilogue.hpp"

namespace usmlite::cpu {

/// A valid (unpadded) convolution of every sequence: output frame t of a sequence sees its input frames
/// t * stride .. t * stride + kernel - 1.
struct SubsamplingConvolution {
  int64_t sequences = 0;
  const int32_t* offsets = nullptr;         // (sequences + 1) input frames
  const int32_t* output_offsets = nullptr;  // (sequences + 1) output frames
  int64_t in = 0, out = 0, kernel = 0, stride = 0;

  int64_t frames() const { return offsets[sequences]; }
  int64_t output_frames() const { return output_offsets[sequences]; }
};

USMLITE_FOR_EACH_ISA(
  // output (output frames, out) = activation(weight (out, in, kernel) * x (frames, in) + bias (out), which may be null)
  void subsampling_convolution(const SubsamplingConvolution& convolution, const float* x, const float* weight,
                               const float* bias, Activation activation, float* output);
  // The same with a weight packed as (out, kernel * in): integers times windows of x in whole numbers, as
  // packed_matmul_int8 multiplies rows, floats times floats.
  void packed_subsampling_convolution(const SubsamplingConvolution& convolution, const float* x,
                                      const codec::PackedMatrix& weight, const float* bias, Activation activation,
                                      float* output);
  // x_gradient (frames, in), from the gradient (output frames, out) of the sum before the activation
  void subsampling_convolution_input_gradient(const SubsamplingConvolution& convolution, const float* gradient,
                                              const float* weight, float* x_gradient);
  // weight_gradient (out, in, kernel)
  void subsampling_convolution_weight_gradient(const SubsamplingConvolution& convolution, const float* gradient,
                                               const float* x, float* weight_gradient);
)
USMLITE_DISPATCH(subsampling_convolution)
USMLITE_DISPATCH(packed_subsampling_convolution)
USMLITE_DISPATCH(subsampling_convolution_input_gradient)
USMLITE_DISPATCH(subsampling_convolution_weight_gradient)

}  // namespace usmlite::cpu
