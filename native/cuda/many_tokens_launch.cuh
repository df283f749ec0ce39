// From a weight's codes and the tile to the kernel that was made for them.
#pragma once

#include "cuda/many_tokens_tiles.hpp"
#include "cuda/matmul_many_tokens_sm90.cuh"
#include "cuda/matmul_many_tokens_sm90.hpp"

namespace usmlite::cuda {

/// Each returns false where there is no kernel for the weight. Defined in files of their own, so that these compile side
/// by side.
bool launch_many_tokens_bfloat16(const MatmulArguments& arguments, ManyTokensTile tile, StreamHandle stream);
bool launch_many_tokens_bfloat16_sparse(const MatmulArguments& arguments, ManyTokensTile tile, StreamHandle stream);
bool launch_many_tokens_float16(const MatmulArguments& arguments, StreamHandle stream);
bool launch_many_tokens_8bit(const MatmulArguments& arguments, ManyTokensTile tile, StreamHandle stream);

template <Arithmetic A, Codes C, bool Sparse, bool Grouped, class T>
bool launch_many_tokens_tile(const MatmulArguments& arguments, StreamHandle stream) {
  using Kernel = ManyTokens<A, C, Sparse, Grouped, T>;
  launch_many_tokens<Kernel>(arguments, stream);
  return true;
}

/// `Grouped`: for weights with scales per group of inputs, and without.
template <Arithmetic A, Codes C, bool Sparse, bool Grouped>
bool launch_many_tokens_tiles(const MatmulArguments& arguments, ManyTokensTile tile, StreamHandle stream) {
  if constexpr (Sparse && kIs16Bit<A>) {
    if (tile == ManyTokensTile::kTall) return launch_many_tokens_tile<A, C, Sparse, Grouped, TallTile>(arguments, stream);
    if (tile == ManyTokensTile::kLoneLarge) return launch_many_tokens_tile<A, C, Sparse, Grouped, LoneLargeTile>(arguments, stream);
  }
  switch (tile) {
    case ManyTokensTile::kSmall: return launch_many_tokens_tile<A, C, Sparse, Grouped, SmallTile>(arguments, stream);
    case ManyTokensTile::kTall:
    case ManyTokensTile::kMedium: return launch_many_tokens_tile<A, C, Sparse, Grouped, MediumTile>(arguments, stream);
    case ManyTokensTile::kLoneLarge:
    case ManyTokensTile::kLarge: return launch_many_tokens_tile<A, C, Sparse, Grouped, LargeTile>(arguments, stream);
  }
  return false;
}

}  // namespace usmlite::cuda
