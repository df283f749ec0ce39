// Products of two matrices on the GPU, neither of them packed.
#pragma once
#include <memory>
#include <string_view>
#include <vector>

#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// A matrix of a product, and whether its transpose is multiplied.
struct ProductOperand {
  const DeviceTensor& matrix;
  bool transposed = false;

  int64_t rows() const { return transposed ? matrix.columns() : matrix.rows(); }
  int64_t columns() const { return transposed ? matrix.rows() : matrix.columns(); }
};

/// x Wᵀ for x (tokens, inputs) and w (channels, inputs), both kBFloat16 or both kFloat16; sums in float32, rounded once.
/// By cuBLASLt where the machine has it, or by our own kernel: the one that the table of the architecture says is
/// faster (product_plan_table.hpp), cuBLASLt for shapes that it does not have. A committed table rather than a race at first
/// use: the same program gives the same bits in every run.
/// Throws INVALID_ARGUMENT when types or shapes do not fit.
/// `way`: one of dense_ways() to take instead, for measuring it.
DeviceTensor dense_product(const DeviceTensor& x, const DeviceTensor& w, const Stream& stream, std::string_view way = {});

/// factor * matrix, which is added to a product; of its shape, type and stride. It may be the result itself.
struct ProductAddend {
  const DeviceTensor* matrix = nullptr;
  float factor = 0.0f;
};

/// y = scale * op(x) op(W)ᵀ + addend for y (tokens, channels) of the same type or kFloat32. Operands are read in the order that they have,
/// transposed or not.
void dense_product_into(const ProductOperand& x, const ProductOperand& w, float scale, const ProductAddend& addend, const DeviceTensor& y,
                        const Stream& stream, std::string_view way = {});

/// Names of the ways of computing a dense product on this machine: "library", and "S/1", "M/1", "L/1" for our tiles on
/// Hopper, "own" before it.
std::vector<std::string_view> dense_ways();

}  // namespace usmlite::cuda
