// A product of activations with a weight in fragment order, by the kernel that its plan names.
#pragma once
#include <cstdint>

#include "cuda/matmul_arguments.hpp"
#include "cuda/product_plan.hpp"
#include "cuda/runtime.hpp"

namespace usmlite::cuda {

/// Memory that a product needs besides its operands, for the members of MatmulArguments.
struct MatmulWorkspace {
  int64_t partial_sums;  // floats
  int counters;
};
/// For `tokens` tokens. Without it (null partial_sums or counters) products run too, slower for few channels.
MatmulWorkspace matmul_workspace(const WeightView& weight, int tokens, const ProductPlan& plan);

/// Starts the product in a stream; the plan is one for this weight and number of tokens. Throws UNSUPPORTED_SPEC for a weight,
/// arithmetic or GPU that there is no kernel for, INVALID_ARGUMENT for shapes, strides or alignments that none can take.
void matmul(const MatmulArguments& arguments, StreamHandle stream, const ProductPlan& plan);

}  // namespace usmlite::cuda
