// The squared distance of two matrices, relative to the size of one: of hidden states from those of a teacher.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// value (1) float32 = |student - teacher|² / |teacher|², factor (1) float32 = 2 / |teacher|², over all elements, added in one order.
/// student, teacher (rows, columns): both bfloat16 or both float32.
void relative_mean_square(const DeviceMatrix& student, const DeviceMatrix& teacher, const DeviceMatrix& value, const DeviceMatrix& factor,
                          const Stream& stream);

/// gradient, like student, = factor[0] * upstream[0] * (student - teacher)
void relative_mean_square_backward(const DeviceMatrix& student, const DeviceMatrix& teacher, const DeviceMatrix& factor,
                                   const DeviceMatrix& upstream, const DeviceMatrix& gradient, const Stream& stream);

}  // namespace usmlite::cuda
