// Which kernel multiplies a product, and how its work is cut: from a table of what was measured on the architecture
// (product_plan_table.hpp), or by a model of the time where the table has nothing.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cuda/matmul_few_tokens.hpp"
#include "cuda/matmul_many_tokens_sm80.hpp"
#include "cuda/matmul_many_tokens_sm90.hpp"

namespace usmlite::cuda {

/// Which kernel multiplies.
///   kByTokens   the faster one for the number of tokens, as the table or the model says. A token's result does not depend on
///               the other tokens; in whole-number arithmetic not on their number either.
///   kFewTokens, kManyTokens   this one, always cut in the same way, so that a token's result is the same bits however many
///               tokens there are.
enum class MatmulKernel : uint8_t { kByTokens, kFewTokens, kManyTokens };

struct ProductPlan {
  enum class Kernel : uint8_t { kFewTokens, kManyTokensSm80, kManyTokensSm90, kGroupedInt8 };
  Kernel kernel;
  FewTokensPlan few;             // of kFewTokens
  ManyTokensPlan many;           // of kManyTokensSm90
  ManyTokensTileSm80 many_sm80;  // of kManyTokensSm80
};

/// The most tokens for which the table is not asked whether the kernel for many is faster.
inline constexpr int kMostFewTokensUnmeasured = 64;

/// Throws UNSUPPORTED_SPEC where the GPU cannot multiply the weight.
ProductPlan choose_product_plan(const WeightView& weight, int tokens, MatmulKernel kernel);

/// All plans that may be the fastest, for measuring them.
std::vector<ProductPlan> product_plans(const WeightView& weight, int tokens);

/// As tables have it: for few tokens the blocks of a band and the parts of each ("4/1", "2/8"), for many the first letter of
/// the tile's name (O: kLoneLarge; small letters on GPUs before Hopper) and its parts ("M/1", "L/2", "s/1"); "*" stands for equal
/// parts wherever bands or tiles begin. Of whole numbers with groups or zero points there is one, "g/1".
std::string code_of(const ProductPlan& plan);
/// The plan of that code for a weight; nothing where the GPU, the weight or this number of tokens does not allow it.
std::optional<ProductPlan> product_plan_of(std::string_view code, const WeightView& weight, int tokens);

}  // namespace usmlite::cuda
