// Dense weights of any code with bfloat16 activations.
#include "cuda/many_tokens_launch.cuh"

namespace usmlite::cuda {

bool launch_many_tokens_bfloat16(const MatmulArguments& arguments, ManyTokensPlan plan, StreamHandle stream) {
  constexpr Arithmetic kA = Arithmetic::kBFloat16;
  const bool grouped = arguments.weight.group_size > 0;
  switch (arguments.weight.codes) {
    case Codes::kFloat16Bit: return launch_many_tokens_tiles<kA, Codes::kFloat16Bit, false, false>(arguments, plan, stream);
    case Codes::kInt8:
      if (grouped) return launch_many_tokens_tile<kA, Codes::kInt8, false, true, MediumTile>(arguments, plan, stream);
      return launch_many_tokens_tiles<kA, Codes::kInt8, false, false>(arguments, plan, stream);
    case Codes::kInt4:
      if (grouped) return launch_many_tokens_tiles<kA, Codes::kInt4, false, true>(arguments, plan, stream);
      return launch_many_tokens_tiles<kA, Codes::kInt4, false, false>(arguments, plan, stream);
    case Codes::kInt3: return launch_many_tokens_tile<kA, Codes::kInt3, false, true, MediumTile>(arguments, plan, stream);
    case Codes::kInt2: return launch_many_tokens_tile<kA, Codes::kInt2, false, true, MediumTile>(arguments, plan, stream);
    case Codes::kUint8: return launch_many_tokens_tile<kA, Codes::kUint8, false, true, MediumTile>(arguments, plan, stream);
    case Codes::kUint4: return launch_many_tokens_tile<kA, Codes::kUint4, false, true, MediumTile>(arguments, plan, stream);
    case Codes::kUint2: return launch_many_tokens_tile<kA, Codes::kUint2, false, true, MediumTile>(arguments, plan, stream);
    case Codes::kInt1: return launch_many_tokens_tile<kA, Codes::kInt1, false, true, MediumTile>(arguments, plan, stream);
    case Codes::kNormalFloat4: return launch_many_tokens_tile<kA, Codes::kNormalFloat4, false, true, MediumTile>(arguments, plan, stream);
    default: return false;
  }
}

}  // namespace usmlite::cuda
