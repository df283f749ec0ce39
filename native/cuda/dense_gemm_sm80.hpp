// The dense product of two matrices of 16-bit floats on GPUs before Hopper.
#pragma once

#include "cuda/dense_gemm.hpp"
#include "cuda/matmul_many_tokens_sm80.hpp"

namespace usmlite::cuda {

/// As dense_gemm_sm90, for any GPU from sm_80 on.
void dense_gemm_sm80(const DenseGemmArguments& arguments, ManyTokensTileSm80 tile, StreamHandle stream);

}  // namespace usmlite::cuda
