// 2:4 sparse weights of any code with bfloat16 activations.
#include "cuda/many_tokens_launch.cuh"

namespace usmlite::cuda {

bool launch_many_tokens_bfloat16_sparse(const MatmulArguments& arguments, ManyTokensPlan plan, StreamHandle stream) {
  constexpr Arithmetic kA = Arithmetic::kBFloat16;
  switch (arguments.weight.codes) {
    case Codes::kFloat16Bit: return launch_many_tokens_tiles<kA, Codes::kFloat16Bit, true, false>(arguments, plan, stream);
    case Codes::kInt8: return launch_many_tokens_tile<kA, Codes::kInt8, true, true, MediumTile>(arguments, plan, stream);
    case Codes::kInt4:
      if (arguments.weight.group_size > 0) return launch_many_tokens_tiles<kA, Codes::kInt4, true, true>(arguments, plan, stream);
      return launch_many_tokens_tiles<kA, Codes::kInt4, true, false>(arguments, plan, stream);
    case Codes::kInt2: return launch_many_tokens_tile<kA, Codes::kInt2, true, true, MediumTile>(arguments, plan, stream);
    case Codes::kUint8: return launch_many_tokens_tile<kA, Codes::kUint8, true, true, MediumTile>(arguments, plan, stream);
    case Codes::kUint4: return launch_many_tokens_tile<kA, Codes::kUint4, true, true, MediumTile>(arguments, plan, stream);
    case Codes::kUint2: return launch_many_tokens_tile<kA, Codes::kUint2, true, true, MediumTile>(arguments, plan, stream);
    default: return false;
  }
}

}  // namespace usmlite::cuda
