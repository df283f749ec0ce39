// matmul_few_tokens for float16 activations and weights of any codes.
#include "cuda/few_tokens_launch.cuh"

namespace usmlite::cuda {

bool launch_few_tokens_float16(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream) {
  return launch_few_tokens_weight_only<Arithmetic::kFloat16>(arguments, plan, stream);
}

}  // namespace usmlite::cuda
