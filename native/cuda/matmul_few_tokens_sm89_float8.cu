// matmul_few_tokens for weights and activations of e4m3 floats. Compiled for GPUs that multiply them, which begin with Ada (8.9), alone:
// whoever calls asks kernel_architecture first.
#include "cuda/few_tokens_launch.cuh"

namespace usmlite::cuda {

bool launch_few_tokens_float8(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream) {
  constexpr Codes kCodes = Codes::kFloat8;
  if (arguments.weight.codes != kCodes) return false;
  if (arguments.weight.sparse) launch_few_tokens<kCodes, Arithmetic::kFloat8, true>(arguments, plan, stream);
  else launch_few_tokens<kCodes, Arithmetic::kFloat8, false>(arguments, plan, stream);
  return true;
}

}  // namespace usmlite::cuda
