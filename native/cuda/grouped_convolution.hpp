// Convolution over time in which groups of channels see only each other, as products of windows on the tensor cores.
#pragma once
#include <vector>

#include "cuda/device_weight.hpp"
#include "cuda/linear.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// y = residual + activation(bias + convolution(x)) with as many frames as x, and zeros outside each sequence. Columns of x and y are
/// divided into groups of equal size, multiples of 8; those of a group are 16-bit floats of its weight's arithmetic.
struct GroupedConvolution {
  const DeviceTensor* x;
  std::vector<const DeviceWeight*> weights;  // of each group, (out / groups, kernel * in / groups)
  std::vector<const DeviceTensor*> biases;   // of each group, in the order of its weight; empty: zero
  int kernel, left_padding;                  // kernel - 1 - left_padding zeros lie behind a sequence
  Activation activation;
  const DeviceTensor* residual;  // like y, or null
  bool batch_invariant;          // as in MatmulKernel::kManyTokens
  const DeviceTensor* y;
};
void grouped_convolution(const GroupedConvolution& convolution, const PackedSequences& sequences, const Stream& stream);

}  // namespace usmlite::cuda
