// The products of a convolution over time in groups of channels, in training: grouped_convolution.hpp without what follows them.
#pragma once
#include "cuda/device_tensor.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// Columns of x (frames, in) and rows of the weight (out, kernel * in / groups), both 16-bit floats of one type, are divided into groups of equal
/// size, multiples of 8. As many frames come out as go in; zeros lie outside each sequence, kernel - 1 - left_padding of them behind it.
struct GroupedProducts {
  const DeviceTensor *x, *weight;
  int groups, left_padding;

  int64_t in() const { return x->columns() / groups; }     // channels of a group
  int64_t out() const { return weight->rows() / groups; }
};

/// y (frames, out) = convolution(x)
void grouped_products(const GroupedProducts& products, const PackedSequences& sequences, const DeviceTensor& y, const Stream& stream);

/// From the gradient of y those of x, like it, and of the weight, float32; either may be null.
void grouped_products_backward(const GroupedProducts& products, const PackedSequences& sequences, const DeviceTensor& gradient,
                               const DeviceTensor* gradient_x, const DeviceTensor* gradient_weight, const Stream& stream);

}  // namespace usmlite::cuda
