// matmul_few_tokens for activations of 8 bits: whole numbers (with weights of 8 or 4 bits) and e4m3 floats.
#include "cuda/few_tokens_launch.cuh"

namespace usmlite::cuda {

bool launch_few_tokens_8bit(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream) {
  const WeightView& w = arguments.weight;
  constexpr Arithmetic kInt8 = Arithmetic::kInt8, kFloat8 = Arithmetic::kFloat8;
  if (w.arithmetic == kFloat8 && w.codes == Codes::kFloat8) {
    if (w.sparse) launch_few_tokens<Codes::kFloat8, kFloat8, true>(arguments, plan, stream);
    else launch_few_tokens<Codes::kFloat8, kFloat8, false>(arguments, plan, stream);
    return true;
  }
  if (w.arithmetic != kInt8) return false;
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
