// From a weight's codes and the tile to the kernel that was made for them.
#pragma once

#include "cuda/many_tokens_tiles.hpp"
#include "cuda/matmul_many_tokens_sm90.cuh"
#include "cuda/matmul_many_tokens_sm90.hpp"

namespace usmlite::cuda {

/// Each returns false where there is no kernel for the weight. Defined in files of their own, so that these compile side
/// by side.
bool launch_many_tokens_bfloat16(const MatmulArguments& arguments, ManyTokensPlan plan, StreamHandle stream);
bool launch_many_tokens_bfloat16_sparse(const MatmulArguments& arguments, ManyTokensPlan plan, StreamHandle stream);
bool launch_many_tokens_float16(const MatmulArguments& arguments, ManyTokensPlan plan, StreamHandle stream);
bool launch_many_tokens_8bit(const MatmulArguments& arguments, ManyTokensPlan plan, StreamHandle stream);

template <Arithmetic A, Codes C, bool Sparse, bool Grouped, class T>
bool launch_many_tokens_tile(const MatmulArguments& arguments, ManyTokensPlan plan, StreamHandle stream) {
  using Kernel = ManyTokens<A, C, Sparse, Grouped, T>;
  launch_many_tokens<Kernel>(arguments, plan.parts, stream);
  return true;
}

/// `Grouped`: for weights with scales per group of inputs, and without.
template <Arithmetic A, Codes C, bool Sparse, bool Grouped>
bool launch_many_tokens_tiles(const MatmulArguments& arguments, ManyTokensPlan plan, StreamHandle stream) {
  if constexpr (Sparse && kIs16Bit<A>) {
    if (plan.tile == ManyTokensTile::kTall) return launch_many_tokens_tile<A, C, Sparse, Grouped, TallTile>(arguments, plan, stream);
    if (plan.tile == ManyTokensTile::kLoneLarge) return launch_many_tokens_tile<A, C, Sparse, Grouped, LoneLargeTile>(arguments, plan, stream);
  }
  switch (plan.tile) {
    case ManyTokensTile::kSmall: return launch_many_tokens_tile<A, C, Sparse, Grouped, SmallTile>(arguments, plan, stream);
    case ManyTokensTile::kTall:
    case ManyTokensTile::kMedium: return launch_many_tokens_tile<A, C, Sparse, Grouped, MediumTile>(arguments, plan, stream);
    case ManyTokensTile::kLoneLarge:
    case ManyTokensTile::kLarge: return launch_many_tokens_tile<A, C, Sparse, Grouped, LargeTile>(arguments, plan, stream);
  }
  return false;
}

}  // namespace usmlite::cuda
