// matmul_few_tokens in whole numbers: activations of 8 bits, weights of 8 or 4.
#include "cuda/few_tokens_launch.cuh"

namespace usmlite::cuda {

bool launch_few_tokens_int8(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream) {
  const WeightView& w = arguments.weight;
  constexpr Arithmetic kInt8 = Arithmetic::kInt8;
  switch (w.codes) {
    case Codes::kInt8:
      if (w.sparse) launch_few_tokens<Codes::kInt8, kInt8, true>(arguments, plan, stream);
      else launch_few_tokens<Codes::kInt8, kInt8, false>(arguments, plan, stream);
      return true;
    case Codes::kInt4:
      if (w.sparse) launch_few_tokens<Codes::kInt4, kInt8, true>(arguments, plan, stream);
      else launch_few_tokens<Codes::kInt4, kInt8, false>(arguments, plan, stream);
      return true;
    default: return false;
  }
}

}  // namespace usmlite::cuda
