// Windows of frames as rows: what turns a strided convolution into a product with its weight.
#pragma once
#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// Row t of sequence s of y holds the frames f .. f + kernel - 1 of sequence s of x, one after another, f = t * stride - left_padding;
/// zeros where there is no such frame. x (frames, channels), which may be columns of a matrix, y (output frames, kernel * channels):
/// 16-bit floats of one type; channels a multiple of 8.
void gather_windows(const DeviceMatrix& x, const PackedSequences& sequences, int stride, int left_padding, const PackedSequences& outputs,
                    const DeviceMatrix& y, const Stream& stream);
/// The same of samples, unpadded: x (samples) float32; y (windows, kernel, rounded up to a multiple of 8) kBFloat16, zeros behind a window.
void sample_windows(const DeviceMatrix& x, const PackedSequences& sequences, int kernel, int stride, const PackedSequences& outputs,
                    const DeviceMatrix& y, const Stream& stream);
/// The gradient of x, which may be columns of a matrix, from that of y: each frame gets the sum of its places in all windows. bfloat16.
void gather_windows_backward(const DeviceMatrix& gradient, const PackedSequences& sequences, int stride, int left_padding,
                             const PackedSequences& outputs, const DeviceMatrix& gradient_x, const Stream& stream);

}  // namespace usmlite::cuda
