// From a weight's codes and the tile to the kernel that was made for them, on GPUs before Hopper.
#pragma once

#include "cuda/matmul_many_tokens_sm80.cuh"
#include "cuda/matmul_many_tokens_sm80.hpp"

namespace usmlite::cuda {

template <Arithmetic A, Codes C, bool Sparse, class Tile>
bool launch_many_tokens_sm80_tile(const MatmulArguments& arguments, StreamHandle stream) {
  launch_many_tokens_sm80<ManyTokensSm80<A, C, Sparse, Tile>>(arguments, stream);
  return true;
}

template <Arithmetic A, Codes C, bool Sparse>
bool launch_many_tokens_sm80_tiles(const MatmulArguments& arguments, ManyTokensTileSm80 tile, StreamHandle stream) {
  if (tile == ManyTokensTileSm80::kSmall) return launch_many_tokens_sm80_tile<A, C, Sparse, SmallTileSm80>(arguments, stream);
  return launch_many_tokens_sm80_tile<A, C, Sparse, MediumTileSm80>(arguments, stream);
}

}  // namespace usmlite::cuda
