// Depthwise convolution over time, as the convolution module of a Conformer has it after batch normalisation was folded.
#pragma once
#include "cuda/device_tensor.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// y[t, c] = activation(bias[c] + sum_k weight[c, k] x[t + k - left, c]) with zeros outside a sequence, in float32.
/// x, y (frames, channels): 16-bit floats of one type; weight (channels, kernel), bias (channels): float32.
/// x (frames, 2 channels), channels even: values and their gates, of which the gated linear unit comes first.
void depthwise_convolution(const DeviceTensor& x, const DeviceTensor& weight, const DeviceTensor* bias, int left, bool silu,
                           const PackedSequences& sequences, const DeviceTensor& y, const std::shared_ptr<Stream>& stream);

/// The gradient of x from that of y (without activation): a convolution with the kernels reversed in time.
void depthwise_convolution_input_gradient(const DeviceTensor& gradient, const DeviceTensor& weight, int left, const PackedSequences& sequences,
                                          const DeviceTensor& gradient_x, const std::shared_ptr<Stream>& stream);
/// The gradients of weight (channels, kernel) and bias (channels), float32; each may be null.
void depthwise_convolution_weight_gradient(const DeviceTensor& x, const DeviceTensor& gradient, int kernel, int left,
                                           const PackedSequences& sequences, const DeviceTensor* gradient_weight,
                                           const DeviceTensor* gradient_bias, const std::shared_ptr<Stream>& stream);

/// Largest kernel the shared memory of a block has room for.
inline constexpr int kLongestDepthwiseKernel = 128;

}  // namespace usmlite::cuda
