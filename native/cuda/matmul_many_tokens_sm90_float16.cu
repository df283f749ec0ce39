// Weights of any code with float16 activations: one tile.
#include "cuda/many_tokens_launch.cuh"

namespace usmlite::cuda {

namespace {

template <Codes C, bool Sparse> bool start(const MatmulArguments& arguments, ManyTokensPlan plan, StreamHandle stream) {
  return launch_many_tokens_tile<Arithmetic::kFloat16, C, Sparse, C != Codes::kFloat16Bit, MediumTile>(arguments, plan, stream);
}

}  // namespace

bool launch_many_tokens_float16(const MatmulArguments& arguments, ManyTokensPlan plan, StreamHandle stream) {
  const WeightView& w = arguments.weight;
  switch (w.codes) {
    case Codes::kFloat16Bit:
      return w.sparse ? start<Codes::kFloat16Bit, true>(arguments, plan, stream) : start<Codes::kFloat16Bit, false>(arguments, plan, stream);
    case Codes::kInt8: return w.sparse ? start<Codes::kInt8, true>(arguments, plan, stream) : start<Codes::kInt8, false>(arguments, plan, stream);
    case Codes::kInt4: return w.sparse ? start<Codes::kInt4, true>(arguments, plan, stream) : start<Codes::kInt4, false>(arguments, plan, stream);
    case Codes::kInt2: return w.sparse ? start<Codes::kInt2, true>(arguments, plan, stream) : start<Codes::kInt2, false>(arguments, plan, stream);
    case Codes::kInt3: return !w.sparse && start<Codes::kInt3, false>(arguments, plan, stream);
    case Codes::kInt1: return !w.sparse && start<Codes::kInt1, false>(arguments, plan, stream);
    case Codes::kNormalFloat4: return !w.sparse && start<Codes::kNormalFloat4, false>(arguments, plan, stream);
    default: return false;
  }
}

}  // namespace usmlite::cuda
