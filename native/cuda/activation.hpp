// Dropout, SiLU and GELU of frames. Gradients compute the activation again from its input instead of storing it.
#pragma once
#include "core/dropout.hpp"
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

// All tensors (frames, columns): 16-bit floats of one type. Element (frame, column) has index frame * columns + column in the
// dropout stream.

/// y = x times its dropout multipliers; its own gradient.
void apply_dropout(const DeviceTensor& x, const Dropout& dropout, const DeviceTensor& y, const std::shared_ptr<Stream>& stream);
/// y = x sigmoid(x) times its dropout multipliers
void silu(const DeviceTensor& x, const Dropout& dropout, const DeviceTensor& y, const std::shared_ptr<Stream>& stream);
void silu_backward(const DeviceTensor& x, const DeviceTensor& gradient, const Dropout& dropout, const DeviceTensor& gradient_x,
                   const std::shared_ptr<Stream>& stream);
/// y = x Φ(x); y may be x
void gelu(const DeviceTensor& x, const DeviceTensor& y, const std::shared_ptr<Stream>& stream);
void gelu_backward(const DeviceTensor& x, const DeviceTensor& gradient, const DeviceTensor& gradient_x, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
