// Products of a weight in fragment order with many tokens on Hopper: bound by the tensor cores and the second-level cache.
#pragma once

#include "cuda/launch.hpp"
#include "cuda/matmul_arguments.hpp"

namespace usmlite::cuda {

/// What one block of threads computes at a time, and how many of them share what they fetch (many_tokens_tiles.hpp).
/// The last two are for 2:4 weights in 16-bit floats alone; others take the medium and the large one instead.
enum class ManyTokensTile : uint8_t { kSmall, kMedium, kLarge, kTall, kLoneLarge };

/// The fastest one for the GPU. On the emulator, where time means nothing, all take turns: each gets its share of tests.
ManyTokensTile many_tokens_tile(const WeightView& weight, int tokens);

/// Starts the product in a stream; false where there is no kernel for the weight's codes and arithmetic. Only for a GPU of
/// compute capability 9.0. A token's result does not depend on the other tokens, their number or the tile. Codes that are
/// rarely used have one tile and take it whatever is asked for.
bool matmul_many_tokens_sm90(const MatmulArguments& arguments, ManyTokensTile tile, StreamHandle stream);

}  // namespace usmlite::cuda
