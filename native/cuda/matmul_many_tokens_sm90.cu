#include "cuda/matmul_many_tokens_sm90.hpp"

#include "cuda/many_tokens_launch.cuh"

namespace usmlite::cuda {

bool matmul_many_tokens_sm90(const MatmulArguments& arguments, ManyTokensPlan plan, StreamHandle stream) {
  const WeightView& w = arguments.weight;
  switch (w.arithmetic) {
    case Arithmetic::kBFloat16:
      return w.sparse ? launch_many_tokens_bfloat16_sparse(arguments, plan, stream) : launch_many_tokens_bfloat16(arguments, plan, stream);
    case Arithmetic::kFloat16: return launch_many_tokens_float16(arguments, plan, stream);
    default: return launch_many_tokens_8bit(arguments, plan, stream);
  }
}

}  // namespace usmlite::cuda
