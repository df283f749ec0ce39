// Products of two matrices on the GPU, neither of them packed.
#pragma once
#include <memory>
#include <string_view>
#include <vector>

#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// x Wᵀ for x (tokens, inputs) and w (channels, inputs), both kBFloat16 or both kFloat16; sums in float32, rounded once.
/// By cuBLASLt where the machine has it, or by our own kernel: the one that the table of the architecture says is
/// faster (product_plan_table.hpp), cuBLASLt for shapes that it does not have. A committed table rather than a race at first
/// use: the same program gives the same bits in every run.
/// Throws INVALID_ARGUMENT when types or shapes do not fit.
/// `way`: one of dense_ways() to take instead, for measuring it.
DeviceTensor dense_product(const DeviceTensor& x, const DeviceTensor& w, const std::shared_ptr<Stream>& stream, std::string_view way = {});

/// y = scale * x Wᵀ + y_factor * y for y (tokens, channels) of the same type; where `y_factor` is 0 it is not read.
void dense_product_into(const DeviceTensor& x, const DeviceTensor& w, float scale, const DeviceTensor& y, float y_factor,
                        const std::shared_ptr<Stream>& stream, std::string_view way = {});

/// Names of the ways of computing a dense product on this machine: "library", and "S/1", "M/1", "L/1" for our tiles on
/// Hopper, "own" before it.
std::vector<std::string_view> dense_ways();

}  // namespace usmlite::cuda
