// Training in whole numbers: weights made on the GPU from rounded float32 ones, in every step again, and the activations that they meet.
#pragma once
#include "cuda/device_tensor.hpp"
#include "cuda/device_weight.hpp"
#include "cuda/linear.hpp"

namespace usmlite::cuda {

/// What a weight of training was rounded with: float32 (channels, groups per row or 1) each.
struct IntegerScales {
  const DeviceMatrix& scale;
  const DeviceMatrix* zero_point;  // null in formats without
};

/// Fills a DeviceWeight of dense int8 codes from weight = scale * (level - zero point), whose levels are whole numbers but for the rounding of
/// floats. Sums of whole numbers are exact, so products have the bits of those with a packed weight of the same levels, whatever its codes
/// and sparsity (fragment_order.hpp). Where a level of zero does not stand for zero, weights that are zero count as pruned, if the spec is sparse.
/// weight: float32 (channels, inputs), inputs a multiple of 4.
void fill_integer_weight(const DeviceWeight& to, const DeviceMatrix& weight, const IntegerScales& scales, const Stream& stream);

/// y = codes * scales + offsets, what a product with `rows` saw of its activations: bfloat16, rounded once.
void widen_rows(const QuantizedRows& rows, const DeviceMatrix& y, const Stream& stream);

/// padded (padded channels) float32: a bias (channels), then zeros.
void pad_bias(const DeviceMatrix& bias, const DeviceMatrix& padded, const Stream& stream);

}  // namespace usmlite::cuda
