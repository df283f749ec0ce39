// A product of activations with a weight in fragment order, by the kernel that suits it.
#pragma once
#include <cstdint>

#include "cuda/matmul_arguments.hpp"
#include "cuda/runtime.hpp"

namespace usmlite::cuda {

/// Which kernel multiplies.
///   kByTokens   the faster one for the number of tokens. A token's result is the same bits whatever the other tokens are
///               and however many there are, as long as the same kernel multiplies; in whole-number arithmetic always.
///   kFewTokens, kManyTokens   this one, so that the same holds for any number of tokens.
/// Each kernel adds in an order that depends on the weight and the GPU alone.
enum class MatmulKernel : uint8_t { kByTokens, kFewTokens, kManyTokens };

/// The most tokens that kByTokens gives to the kernel for few, which reads weights at the full speed of memory; beyond,
/// the tensor cores' speed counts.
int most_few_tokens(const WeightView& weight);

/// Memory that a product needs besides its operands, for the members of MatmulArguments.
struct MatmulWorkspace {
  int64_t partial_sums;  // floats
  int counters;
};
/// For `tokens` tokens. Without it (null partial_sums or counters) products run too, slower for few channels.
MatmulWorkspace matmul_workspace(const WeightView& weight, int tokens, MatmulKernel kernel = MatmulKernel::kByTokens);

/// Starts the product in a stream. Throws UNSUPPORTED_SPEC for a weight, arithmetic or GPU that there is no kernel for,
/// INVALID_ARGUMENT for shapes, strides or alignments that none can take.
void matmul(const MatmulArguments& arguments, StreamHandle stream, MatmulKernel kernel = MatmulKernel::kByTokens);

}  // namespace usmlite::cuda
