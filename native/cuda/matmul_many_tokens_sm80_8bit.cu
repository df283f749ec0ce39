// Activations that are whole numbers of 8 bits, with weights of 8 or 4 bits, dense and 2:4 sparse, on GPUs before Hopper.
#include "cuda/many_tokens_sm80_launch.cuh"

namespace usmlite::cuda {

bool launch_many_tokens_sm80_8bit(const MatmulArguments& arguments, ManyTokensTileSm80 tile, StreamHandle stream) {
  const WeightView& w = arguments.weight;
  constexpr Arithmetic kA = Arithmetic::kInt8;
  if (w.arithmetic != kA) return false;
  switch (w.codes) {
    case Codes::kInt8:
      if (w.sparse) return launch_many_tokens_sm80_tiles<kA, Codes::kInt8, true>(arguments, tile, stream);
      return launch_many_tokens_sm80_tiles<kA, Codes::kInt8, false>(arguments, tile, stream);
    case Codes::kInt4:
      if (w.sparse) return launch_many_tokens_sm80_tiles<kA, Codes::kInt4, true>(arguments, tile, stream);
      return launch_many_tokens_sm80_tiles<kA, Codes::kInt4, false>(arguments, tile, stream);
    default: return false;
  }
}

}  // namespace usmlite::cuda
