// Convolution over the plane of time and frequency: each channel with a square kernel of its own.
#pragma once
#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// Extent of the kernels along time and frequency.
inline constexpr int kPlaneKernel = 3;

struct PlaneConvolutionArguments {
  const DeviceMatrix* x;       // (frames, features * channels) or, when `depthwise` is false, (frames, features): 16-bit floats
  const DeviceMatrix* weight;  // (channels, 9) float32: time by frequency
  const DeviceMatrix* bias;    // (channels) float32
  int features, output_features;
  int stride, padding;  // of both axes
  bool depthwise;       // else the one plane is seen by the kernels of all channels
  bool relu;
};

/// y (output frames, output features * channels); channels a multiple of 8. Zeros lie outside a sequence and the features.
void plane_convolution(const PlaneConvolutionArguments& arguments, const PackedSequences& sequences, const PackedSequences& outputs,
                       const DeviceMatrix& y, const Stream& stream);

struct PlaneConvolutionBackwardArguments {
  PlaneConvolutionArguments convolution;  // its bias is not used
  const DeviceMatrix* y;                  // what the forward pass gave, which tells where relu let values through; null without relu
  const DeviceMatrix* gradient;           // of y; all frames are bfloat16
  // Null where they are not wanted:
  const DeviceMatrix* gradient_x;       // like x
  const DeviceMatrix* gradient_weight;  // (channels, 9) float32
  const DeviceMatrix* gradient_bias;    // (channels) float32
};

/// Sums over frames have one order.
void plane_convolution_backward(const PlaneConvolutionBackwardArguments& arguments, const PackedSequences& sequences,
                                const PackedSequences& outputs, const Stream& stream);

}  // namespace usmlite::cuda
