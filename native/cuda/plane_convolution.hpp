// Convolution over the plane of time and frequency: each channel with a square kernel of its own.
#pragma once
#include "cuda/device_tensor.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// Extent of the kernels along time and frequency.
inline constexpr int kPlaneKernel = 3;

struct PlaneConvolutionArguments {
  const DeviceTensor* x;       // (frames, features * channels) or, when `depthwise` is false, (frames, features): 16-bit floats
  const DeviceTensor* weight;  // (channels, 9) float32: time by frequency
  const DeviceTensor* bias;    // (channels) float32
  int features, output_features;
  int stride, padding;  // of both axes
  bool depthwise;       // else the one plane is seen by the kernels of all channels
  bool relu;
};

/// y (output frames, output features * channels); channels a multiple of 8. Zeros lie outside a sequence and the features.
void plane_convolution(const PlaneConvolutionArguments& arguments, const PackedSequences& sequences, const PackedSequences& outputs,
                       const DeviceTensor& y, const std::shared_ptr<Stream>& stream);

struct PlaneConvolutionBackwardArguments {
  PlaneConvolutionArguments convolution;  // its bias is not used
  const DeviceTensor* y;                  // what the forward pass gave, which tells where relu let values through; null without relu
  const DeviceTensor* gradient;           // of y; all frames are bfloat16
  // Null where they are not wanted:
  const DeviceTensor* gradient_x;       // like x
  const DeviceTensor* gradient_weight;  // (channels, 9) float32
  const DeviceTensor* gradient_bias;    // (channels) float32
};

/// Sums over frames have one order.
void plane_convolution_backward(const PlaneConvolutionBackwardArguments& arguments, const PackedSequences& sequences,
                                const PackedSequences& outputs, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
