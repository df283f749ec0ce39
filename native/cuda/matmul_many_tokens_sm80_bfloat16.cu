// Weights of any code with bfloat16 activations, on GPUs before Hopper.
#include "cuda/many_tokens_sm80_launch.cuh"

namespace usmlite::cuda {

bool launch_many_tokens_sm80_bfloat16(const MatmulArguments& arguments, ManyTokensTileSm80 tile, StreamHandle stream) {
  constexpr Arithmetic kA = Arithmetic::kBFloat16;
  const WeightView& w = arguments.weight;
  if (w.sparse) {
    switch (w.codes) {
      case Codes::kFloat16Bit: return launch_many_tokens_sm80_tiles<kA, Codes::kFloat16Bit, true>(arguments, tile, stream);
      case Codes::kInt8: return launch_many_tokens_sm80_tile<kA, Codes::kInt8, true, MediumTileSm80>(arguments, stream);
      case Codes::kInt4: return launch_many_tokens_sm80_tiles<kA, Codes::kInt4, true>(arguments, tile, stream);
      case Codes::kInt2: return launch_many_tokens_sm80_tile<kA, Codes::kInt2, true, MediumTileSm80>(arguments, stream);
      case Codes::kUint8: return launch_many_tokens_sm80_tile<kA, Codes::kUint8, true, MediumTileSm80>(arguments, stream);
      case Codes::kUint4: return launch_many_tokens_sm80_tile<kA, Codes::kUint4, true, MediumTileSm80>(arguments, stream);
      case Codes::kUint2: return launch_many_tokens_sm80_tile<kA, Codes::kUint2, true, MediumTileSm80>(arguments, stream);
      default: return false;
    }
  }
  switch (w.codes) {
    case Codes::kFloat16Bit: return launch_many_tokens_sm80_tiles<kA, Codes::kFloat16Bit, false>(arguments, tile, stream);
    case Codes::kInt8: return launch_many_tokens_sm80_tiles<kA, Codes::kInt8, false>(arguments, tile, stream);
    case Codes::kInt4: return launch_many_tokens_sm80_tiles<kA, Codes::kInt4, false>(arguments, tile, stream);
    case Codes::kInt3: return launch_many_tokens_sm80_tile<kA, Codes::kInt3, false, MediumTileSm80>(arguments, stream);
    case Codes::kInt2: return launch_many_tokens_sm80_tile<kA, Codes::kInt2, false, MediumTileSm80>(arguments, stream);
    case Codes::kUint8: return launch_many_tokens_sm80_tile<kA, Codes::kUint8, false, MediumTileSm80>(arguments, stream);
    case Codes::kUint4: return launch_many_tokens_sm80_tile<kA, Codes::kUint4, false, MediumTileSm80>(arguments, stream);
    case Codes::kUint2: return launch_many_tokens_sm80_tile<kA, Codes::kUint2, false, MediumTileSm80>(arguments, stream);
    case Codes::kInt1: return launch_many_tokens_sm80_tile<kA, Codes::kInt1, false, MediumTileSm80>(arguments, stream);
    case Codes::kNormalFloat4: return launch_many_tokens_sm80_tile<kA, Codes::kNormalFloat4, false, MediumTileSm80>(arguments, stream);
    default: return false;
  }
}

}  // namespace usmlite::cuda
