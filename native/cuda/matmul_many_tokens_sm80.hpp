// Products of a weight in fragment order with many tokens on GPUs before Hopper: bound by the tensor cores.
#pragma once

#include "cuda/matmul_arguments.hpp"
#include "cuda/runtime.hpp"

namespace usmlite::cuda {

/// What a thread block computes: 64 channels by 64 tokens, or 128 by 128 (tile_sm80.cuh).
enum class ManyTokensTileSm80 : uint8_t { kSmall, kMedium };

/// The faster one, by an estimate. On the emulator, where time means nothing, both take turns: each gets its share of tests.
ManyTokensTileSm80 many_tokens_tile_sm80(int channels, int tokens);

/// Starts the product in a stream; false where there is no kernel for the weight's codes and arithmetic. For any GPU from sm_80
/// on; e4m3 numbers have none. A token's result does not depend on the other tokens, their number or the tile. Codes that
/// are rarely used have one tile and take it whatever is asked for.
bool matmul_many_tokens_sm80(const MatmulArguments& arguments, ManyTokensTileSm80 tile, StreamHandle stream);

}  // namespace usmlite::cuda
