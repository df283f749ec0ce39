// The dense product of two matrices of 16-bit floats on Hopper.
#pragma once

#include "cuda/dense_gemm.hpp"
#include "cuda/launch.hpp"
#include "cuda/matmul_many_tokens_sm90.hpp"

namespace usmlite::cuda {

/// Starts the product in a stream, for a GPU of compute capability 9.0.
void dense_gemm_sm90(const DenseGemmArguments& arguments, ManyTokensTile tile, StreamHandle stream);

}  // namespace usmlite::cuda
