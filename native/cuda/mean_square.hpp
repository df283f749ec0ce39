// The squared distance of two matrices, relative to the size of one: of hidden states from those of a teacher.
#pragma once
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// value (1) float32 = |student - teacher|² / |teacher|², factor (1) float32 = 2 / |teacher|², over all elements, added in one order.
/// student, teacher (rows, columns): both bfloat16 or both float32.
void relative_mean_square(const DeviceTensor& student, const DeviceTensor& teacher, const DeviceTensor& value, const DeviceTensor& factor,
                          const std::shared_ptr<Stream>& stream);

/// gradient, like student, = factor[0] * upstream[0] * (student - teacher)
void relative_mean_square_backward(const DeviceTensor& student, const DeviceTensor& teacher, const DeviceTensor& factor,
                                   const DeviceTensor& upstream, const DeviceTensor& gradient, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
