// Products of a weight in fragment order with few tokens: memory-bound, for any GPU from sm_80 on.
#pragma once

#include "cuda/few_tokens_plan.hpp"
#include "cuda/matmul_arguments.hpp"
#include "cuda/runtime.hpp"

namespace usmlite::cuda {

/// Starts the product in a stream. More tokens than kMostFewTokens are multiplied in tiles, each of which reads the weight.
/// The plan is plan_few_tokens's; where it shares bands, `partial_sums` holds partial_sum_count floats for each tile of
/// few_tokens_tile(weight, tokens) tokens, and `counters` an int for each band and tile, zero before and after.
/// A token's result does not depend on the other tokens, nor on their number.
/// Throws UNSUPPORTED_SPEC for codes that the arithmetic has no kernel for.
void matmul_few_tokens(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream);

/// The tokens of a tile: 8, 16 or 32. Of 2:4 products of e4m3 numbers at most 16: `mma.sp` of these takes many registers. In
/// float16, which only decoders multiply in, and of codes with zero points 8 or 32, of both at once always 32: each tile is a kernel for every
/// code, and all take their time to compile.
inline int few_tokens_tile(const WeightView& weight, int tokens) {
  const bool float16 = weight.arithmetic == Arithmetic::kFloat16, zero_points = has_zero_points(weight.codes);
  if (float16 && zero_points) return 32;
  if (tokens <= 8) return 8;
  if (float16 || zero_points) return 32;
  return tokens <= 16 || (weight.arithmetic == Arithmetic::kFloat8 && weight.sparse) ? 16 : 32;
}

}  // namespace usmlite::cuda
