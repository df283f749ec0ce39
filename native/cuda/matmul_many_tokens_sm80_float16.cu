// Weights of any code with float16 activations, on GPUs before Hopper: one tile.
#include "cuda/many_tokens_sm80_launch.cuh"

namespace usmlite::cuda {

namespace {

template <Codes C, bool Sparse> bool start(const MatmulArguments& arguments, StreamHandle stream) {
  return launch_many_tokens_sm80_tile<Arithmetic::kFloat16, C, Sparse, MediumTileSm80>(arguments, stream);
}

}  // namespace

bool launch_many_tokens_sm80_float16(const MatmulArguments& arguments, StreamHandle stream) {
  const WeightView& w = arguments.weight;
  switch (w.codes) {
    case Codes::kFloat16Bit:
      return w.sparse ? start<Codes::kFloat16Bit, true>(arguments, stream) : start<Codes::kFloat16Bit, false>(arguments, stream);
    case Codes::kInt8: return w.sparse ? start<Codes::kInt8, true>(arguments, stream) : start<Codes::kInt8, false>(arguments, stream);
    case Codes::kInt4: return w.sparse ? start<Codes::kInt4, true>(arguments, stream) : start<Codes::kInt4, false>(arguments, stream);
    case Codes::kInt2: return w.sparse ? start<Codes::kInt2, true>(arguments, stream) : start<Codes::kInt2, false>(arguments, stream);
    case Codes::kInt3: return !w.sparse && start<Codes::kInt3, false>(arguments, stream);
    case Codes::kInt1: return !w.sparse && start<Codes::kInt1, false>(arguments, stream);
    case Codes::kNormalFloat4: return !w.sparse && start<Codes::kNormalFloat4, false>(arguments, stream);
    default: return false;
  }
}

}  // namespace usmlite::cuda
