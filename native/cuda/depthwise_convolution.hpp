// Depthwise convolution over time, as the convolution module of a Conformer has it after batch normalisation was folded.
#pragma once
#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// y[t, c] = activation(bias[c] + sum_k weight[c, k] x[t + k - left, c]) with zeros outside a sequence, in float32.
/// x, y (frames, channels): 16-bit floats of one type; weight (channels, kernel), bias (channels): float32.
/// x (frames, 2 channels), channels even: values and their gates, of which the gated linear unit comes first.
void depthwise_convolution(const DeviceMatrix& x, const DeviceMatrix& weight, const DeviceMatrix* bias, int left, bool silu,
                           const PackedSequences& sequences, const DeviceMatrix& y, const Stream& stream);

/// The gradient of x from that of y (without activation): a convolution with the kernels reversed in time.
void depthwise_convolution_input_gradient(const DeviceMatrix& gradient, const DeviceMatrix& weight, int left, const PackedSequences& sequences,
                                          const DeviceMatrix& gradient_x, const Stream& stream);
/// The gradients of weight (channels, kernel) and bias (channels), float32; each may be null.
void depthwise_convolution_weight_gradient(const DeviceMatrix& x, const DeviceMatrix& gradient, int kernel, int left,
                                           const PackedSequences& sequences, const DeviceMatrix* gradient_weight,
                                           const DeviceMatrix* gradient_bias, const Stream& stream);

/// Largest kernel the shared memory of a block has room for.
inline constexpr int kLongestDepthwiseKernel = 128;

}  // namespace usmlite::cuda
