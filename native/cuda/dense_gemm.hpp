// The dense product of two matrices of 16-bit floats: what its kernels are given.
#pragma once

#include "cuda/matmul_arguments.hpp"

namespace usmlite::cuda {

/// y = activation(x Wᵀ + bias) ... as `matmul` says. Of its weight, `arithmetic` (kBFloat16 or kFloat16), `channels` and `inputs` count; `codes` is
/// kFloat16Bit. Either operand may lie in memory as its transpose, whose rows are aligned to 16 bytes too.
struct DenseGemmArguments {
  MatmulArguments matmul;
  const void* w;           // (channels, w_stride)
  int64_t w_stride;        // elements
  bool x_transposed;       // x is (inputs, x_stride)
  bool w_transposed;       // w is (inputs, w_stride)
  bool wide;               // y and the residual are float32
};

}  // namespace usmlite::cuda
