// Products in whole numbers with weights that have a scale for each group of inputs, or zero points.
#pragma once

#include "cuda/matmul_arguments.hpp"
#include "cuda/runtime.hpp"

namespace usmlite::cuda {

/// Starts the product in a stream: of a weight of which is_grouped_int8() holds, on any GPU, for any number of tokens. A token's result
/// does not depend on the other tokens or their number.
void matmul_grouped_int8(const MatmulArguments& arguments, StreamHandle stream);

}  // namespace usmlite::cuda
