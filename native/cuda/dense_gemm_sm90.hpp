// The dense product of two row-major matrices of 16-bit floats on Hopper.
#pragma once

#include "cuda/launch.hpp"
#include "cuda/matmul_arguments.hpp"
#include "cuda/matmul_many_tokens_sm90.hpp"

namespace usmlite::cuda {

/// Starts y = activation(x Wᵀ + bias) ... (MatmulArguments) in a stream, for a GPU of compute capability 9.0. Of the
/// arguments' weight, `arithmetic` (kBFloat16 or kFloat16), `channels` and `inputs` count; `codes` is kFloat16Bit; W itself
/// is `w` (channels, w_stride), rows aligned to 16 bytes.
void dense_gemm_sm90(const MatmulArguments& arguments, const void* w, int64_t w_stride, ManyTokensTile tile, StreamHandle stream);

}  // namespace usmlite::cuda
