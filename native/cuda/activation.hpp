// Dropout, SiLU and GELU of frames. Gradients compute the activation again from its input instead of storing it.
#pragma once
#include "core/dropout.hpp"
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

// All tensors (frames, columns): 16-bit floats of one type. Element (frame, column) has index frame * columns + column in the
// dropout stream.

/// y = x times its dropout multipliers; its own gradient.
void apply_dropout(const DeviceMatrix& x, const Dropout& dropout, const DeviceMatrix& y, const Stream& stream);
/// y = x sigmoid(x) times its dropout multipliers
void silu(const DeviceMatrix& x, const Dropout& dropout, const DeviceMatrix& y, const Stream& stream);
void silu_backward(const DeviceMatrix& x, const DeviceMatrix& gradient, const Dropout& dropout, const DeviceMatrix& gradient_x,
                   const Stream& stream);
/// y = x Φ(x); y may be x
void gelu(const DeviceMatrix& x, const DeviceMatrix& y, const Stream& stream);
void gelu_backward(const DeviceMatrix& x, const DeviceMatrix& gradient, const DeviceMatrix& gradient_x, const Stream& stream);

}  // namespace usmlite::cuda
