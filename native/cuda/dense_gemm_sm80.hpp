// The dense product of two row-major matrices of 16-bit floats on GPUs before Hopper.
#pragma once

#include "cuda/matmul_arguments.hpp"
#include "cuda/matmul_many_tokens_sm80.hpp"

namespace usmlite::cuda {

/// As dense_gemm_sm90, for any GPU from sm_80 on.
void dense_gemm_sm80(const MatmulArguments& arguments, const void* w, int64_t w_stride, ManyTokensTileSm80 tile, StreamHandle stream);

}  // namespace usmlite::cuda
