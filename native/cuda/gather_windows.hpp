// Windows of frames as rows: what turns a strided convolution into a product with its weight.
#pragma once
#include "cuda/device_tensor.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// Row t of sequence s of y holds the frames t * stride .. t * stride + kernel - 1 of sequence s of x, one after another.
/// x (frames, channels), y (output frames, kernel * channels): 16-bit floats of one type; channels a multiple of 8.
void gather_windows(const DeviceTensor& x, const PackedSequences& sequences, int stride, const PackedSequences& outputs,
                    const DeviceTensor& y, const std::shared_ptr<Stream>& stream);
/// The gradient of x from that of y: each frame gets the sum of its places in all windows.
void gather_windows_backward(const DeviceTensor& gradient, const PackedSequences& sequences, int stride, const PackedSequences& outputs,
                             const DeviceTensor& gradient_x, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
