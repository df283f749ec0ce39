// Matrix products of a training step: activations and weights of 16 bits, gradients of weights in float32.
#pragma once
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// A matrix of a product, and whether its transpose is multiplied.
struct ProductOperand {
  const DeviceTensor& matrix;
  bool transposed;

  int64_t rows() const { return transposed ? matrix.columns() : matrix.rows(); }
  int64_t columns() const { return transposed ? matrix.rows() : matrix.columns(); }
};

/// scale * op(a) op(b) (m, n) of matrices op(a) (m, k) and op(b) (k, n), both kBFloat16 or both kFloat16; sums in float32, rounded once
/// to `type`: that of the matrices, or kFloat32. By cuBLASLt where it is found, otherwise by our own kernel, which takes transposed
/// copies and rounds to 16 bits even for float32.
/// Throws INVALID_ARGUMENT when types or shapes do not fit, UNSUPPORTED_SPEC as dense_product does.
DeviceTensor training_product(const ProductOperand& a, const ProductOperand& b, float scale, DeviceType type, const std::shared_ptr<Stream>& stream);

/// sum += the same, for `sum` (m, n) of such a type.
void add_training_product(const ProductOperand& a, const ProductOperand& b, float scale, const DeviceTensor& sum,
                          const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
