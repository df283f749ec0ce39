// Matrix products of a training step: activations and weights of 16 bits, gradients of weights in float32.
#pragma once
#include "cuda/dense_product.hpp"

namespace usmlite::cuda {

/// scale * op(a) op(b) + addend (m, n) of matrices op(a) (m, k) and op(b) (k, n), both kBFloat16 or both kFloat16; sums in float32, rounded once
/// to `type`: that of the matrices, or kFloat32. By cuBLASLt where it is found, otherwise by our own kernel (dense_product.hpp).
/// Throws INVALID_ARGUMENT when types or shapes do not fit, and where columns of another matrix are to be added.
DeviceTensor training_product(const ProductOperand& a, const ProductOperand& b, float scale, DeviceType type, const Stream& stream,
                              const ProductAddend& addend = {});

/// sum += the same, for `sum` (m, n) of such a type.
void add_training_product(const ProductOperand& a, const ProductOperand& b, float scale, const DeviceTensor& sum,
                          const Stream& stream);

}  // namespace usmlite::cuda
