// Loops over the inputs of a dense product for each order in which its operands may lie.
#pragma once

#include "cuda/dense_gemm.hpp"
#include "cuda/kernel_language.cuh"

namespace usmlite::cuda {

/// Calls `loop.template operator()<x transposed, w transposed>()`: a kernel has a loop for each order and
/// one epilogue, rather than an instance for each.
template <typename Loop> __device__ __forceinline__ void in_order_of(const DenseGemmArguments& arguments, Loop&& loop) {
  if (!arguments.x_transposed && !arguments.w_transposed) loop.template operator()<false, false>();
  else if (!arguments.x_transposed) loop.template operator()<false, true>();
  else if (arguments.w_transposed) loop.template operator()<true, true>();
  else loop.template operator()<true, false>();
}

}  // namespace usmlite::cuda
