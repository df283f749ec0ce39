// Products of a weight in fragment order with many tokens on Hopper: bound by the tensor cores and the second-level cache.
#pragma once
#include <vector>

#include "cuda/launch.hpp"
#include "cuda/many_tokens_tiles.hpp"
#include "cuda/matmul_arguments.hpp"

namespace usmlite::cuda {

/// What one block of threads computes at a time, and how many of them share what they fetch (many_tokens_tiles.hpp).
/// The last two are for 2:4 weights in 16-bit floats alone: others take the medium and the large one instead.
enum class ManyTokensTile : uint8_t { kSmall, kMedium, kLarge, kTall, kLoneLarge };

struct ManyTokensPlan {
  ManyTokensTile tile;
  int parts;  // of a tile's inputs, which as many clusters multiply; 1: whole tiles; or kEqualParts
};

/// The plan that is expected to be fastest: the tile by a model of the time it takes, and whole tiles.
ManyTokensPlan expected_many_tokens_plan(const WeightView& weight, int tokens);
/// All that may be fastest, the expected one first; tiles that there is no kernel for are left out. Without `may_share` whole
/// tiles alone.
std::vector<ManyTokensPlan> many_tokens_plans(const WeightView& weight, int tokens, bool may_share);

/// Memory that a plan takes, for MatmulArguments' partial_sums and counters: nothing for whole tiles.
struct ManyTokensWorkspace {
  int64_t partial_sums;  // floats
  int counters;
};
ManyTokensWorkspace many_tokens_workspace(const WeightView& weight, int tokens, ManyTokensPlan plan);

/// Starts the product in a stream; false where there is no kernel for the weight's codes and arithmetic. Only for a GPU of
/// compute capability 9.0. With whole tiles, which are also what a missing workspace gives, a token's result does not depend
/// on the other tokens, their number or the tile. Codes that are rarely used have one tile and take it whatever is asked for.
bool matmul_many_tokens_sm90(const MatmulArguments& arguments, ManyTokensPlan plan, StreamHandle stream);

}  // namespace usmlite::cuda
