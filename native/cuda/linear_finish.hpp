// What follows the matrix product of a linear layer in training, and its gradient.
#pragma once
#include "core/dropout.hpp"
#include "cuda/device_matrix.hpp"
#include "cuda/matmul_arguments.hpp"

namespace usmlite::cuda {

struct LinearFinish {
  const DeviceMatrix* bias;  // float32 (columns) or null
  Activation activation;     // any but kGlu
  float scale;
  Dropout dropout;
};

/// y = residual_scale * residual + scale * dropout(activation(sums + bias)); `residual` may be null. 16-bit floats of one type and shape;
/// y may be `sums`.
void finish_linear(const LinearFinish& layer, const DeviceMatrix& sums, const DeviceMatrix* residual, float residual_scale, const DeviceMatrix& y,
                   const Stream& stream);

/// From the gradient of y but for the residual: that of `sums` (may be null), and of the bias, float32 (columns) (may be null), added up in one
/// order. `sums` is not read without an activation and may then be null.
void linear_gradient(const LinearFinish& layer, const DeviceMatrix& gradient, const DeviceMatrix* sums, const DeviceMatrix* sum_gradient,
                     const DeviceMatrix* bias_gradient, const Stream& stream);

/// Its kernels; `bias_parts`: (linear_row_blocks(rows), columns) for the sums of blocks of rows, null without `bias_gradient`.
void linear_gradient(const LinearFinish& layer, const DeviceMatrix& gradient, const DeviceMatrix* sums, const DeviceMatrix* sum_gradient,
                     const DeviceMatrix* bias_gradient, float* bias_parts, const Stream& stream);
int64_t linear_row_blocks(int64_t rows);

}  // namespace usmlite::cuda
