// Depthwise two-dimensional convolution over the plane of time and frequency of each packed sequence: the front of
// FastConformer (Rekesh et al. 2023). Frames lie one after another, each (features, channels).
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

struct PlaneConvolution {
  const int32_t* offsets;         // (sequences + 1) input frames
  const int32_t* output_offsets;  // (sequences + 1) output frames
  int64_t sequences;
  int64_t features, output_features;  // extent of the frequency axis before and after
  int64_t channels;
  bool shared_input;  // x has one channel, which all kernels see; otherwise each sees its own
  int64_t kernel, stride, padding;  // the same along both axes; zeros lie outside
  bool relu;

  int64_t input_channels() const { return shared_input ? 1 : channels; }
};

USMLITE_FOR_EACH_ISA(
  // y(output frames, output_features, channels) from x(frames, features, input channels), weight (channels, kernel, kernel)
  // and bias (channels)
  void plane_convolution(const PlaneConvolution& convolution, const float* x, const float* weight, const float* bias, float* y);
  // From the gradient of y, and y itself, which tells where relu let values through: those of x (null where not wanted), weight and
  // bias.
  void plane_convolution_backward(const PlaneConvolution& convolution, const float* x, const float* y, const float* weight,
                                  const float* gradient, float* gradient_x, float* gradient_weight, float* gradient_bias);
)
USMLITE_DISPATCH(plane_convolution)
USMLITE_DISPATCH(plane_convolution_backward)

}  // namespace usmlite::cpu
