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

/// The tokens of a tile: 8, 16 or 32, of which not every weight has each, since each is a kernel that takes its time to compile. 2:4
/// products of e4m3 numbers have at most 16: `mma.sp` of these takes many registers.
constexpr int few_tokens_tile(Codes codes, Arithmetic arithmetic, bool sparse, int tokens) {
  if (arithmetic == Arithmetic::kFloat16 && codes != Codes::kFloat16Bit) return 16;  // models multiply floats alone in float16
  const bool common = codes == Codes::kInt8 || codes == Codes::kInt4 || codes == Codes::kInt2 || codes == Codes::kFloat8;
  if (tokens <= 8) return 8;
  if (!common) return 32;
  return tokens <= 16 || (arithmetic == Arithmetic::kFloat8 && sparse) ? 16 : 32;
}
inline int few_tokens_tile(const WeightView& weight, int tokens) {
  return few_tokens_tile(weight.codes, weight.arithmetic, weight.sparse, tokens);
}

}  // namespace usmlite::cuda
