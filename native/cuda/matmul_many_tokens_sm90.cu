#include "cuda/matmul_many_tokens_sm90.hpp"

#include "cuda/many_tokens_launch.cuh"

namespace usmlite::cuda {

bool matmul_many_tokens_sm90(const MatmulArguments& arguments, ManyTokensTile tile, StreamHandle stream) {
  const WeightView& w = arguments.weight;
  switch (w.arithmetic) {
    case Arithmetic::kBFloat16:
      return w.sparse ? launch_many_tokens_bfloat16_sparse(arguments, tile, stream) : launch_many_tokens_bfloat16(arguments, tile, stream);
    case Arithmetic::kFloat16: return launch_many_tokens_float16(arguments, stream);
    default: return launch_many_tokens_8bit(arguments, tile, stream);
  }
}

}  // namespace usmlite::cuda
