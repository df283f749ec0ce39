// Normalisation of every channel over the frames of its sequence, as cpu/instance_norm.hpp says.
#pragma once
#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// y = (x - mean) / sqrt(variance + epsilon) * weight + bias, with the biased variance. x and y (frames, channels): 16-bit floats of one
/// type; weight and bias (channels) float32, in which statistics are taken.
void instance_norm(const DeviceMatrix& x, const PackedSequences& sequences, const DeviceMatrix& weight, const DeviceMatrix& bias,
                   float epsilon, const DeviceMatrix& y, const Stream& stream);

}  // namespace usmlite::cuda
