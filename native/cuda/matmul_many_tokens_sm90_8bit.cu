// Activations of 8 bits: whole numbers, with weights of 8 or 4 bits, and e4m3 floats. Dense and 2:4 sparse.
#include "cuda/many_tokens_launch.cuh"

namespace usmlite::cuda {

bool launch_many_tokens_8bit(const MatmulArguments& arguments, ManyTokensPlan plan, StreamHandle stream) {
  const WeightView& w = arguments.weight;
  if (w.arithmetic == Arithmetic::kFloat8) {
    if (w.codes != Codes::kFloat8) return false;
    if (w.sparse) return launch_many_tokens_tile<Arithmetic::kFloat8, Codes::kFloat8, true, false, MediumTile>(arguments, plan, stream);
    return launch_many_tokens_tile<Arithmetic::kFloat8, Codes::kFloat8, false, false, MediumTile>(arguments, plan, stream);
  }
  constexpr Arithmetic kA = Arithmetic::kInt8;
  switch (w.codes) {
    case Codes::kInt8:
      if (w.sparse) return launch_many_tokens_tiles<kA, Codes::kInt8, true, false>(arguments, plan, stream);
      return launch_many_tokens_tiles<kA, Codes::kInt8, false, false>(arguments, plan, stream);
    case Codes::kInt4:
      if (w.sparse) return launch_many_tokens_tiles<kA, Codes::kInt4, true, false>(arguments, plan, stream);
      return launch_many_tokens_tiles<kA, Codes::kInt4, false, false>(arguments, plan, stream);
    default: return false;
  }
}

}  // namespace usmlite::cuda
