#include "cuda/product_plan.hpp"

#include "core/error.hpp"
#include "cuda/kernel_architecture.hpp"
#include "cuda/product_plan_table.hpp"
#include "cuda/runtime.hpp"

namespace usmlite::cuda {
namespace {

constexpr std::string_view kTileLetters = "SMLTO";  // in the order of ManyTokensTile

std::vector<FewTokensPlan> few_plans(const WeightView& weight) {
  const GpuProperties& gpu = gpu_properties();
  std::vector<FewTokensPlan> plans =
      few_tokens_plans(weight, gpu.multiprocessors, static_cast<size_t>(gpu.shared_bytes_per_block), true);
  if (plans.empty()) {
    throw Error(error_code::kUnsupportedSpec, "this GPU has too little shared memory for the product of weights of these codes");
  }
  return plans;
}

ProductPlan few(const FewTokensPlan& plan) { return {ProductPlan::Kernel::kFewTokens, plan, {}, {}}; }
ProductPlan many(ManyTokensPlan plan) { return {ProductPlan::Kernel::kManyTokensSm90, {}, plan, {}}; }
ProductPlan many(ManyTokensTileSm80 tile) { return {ProductPlan::Kernel::kManyTokensSm80, {}, {}, tile}; }

const ProductPlan kGroupedInt8{ProductPlan::Kernel::kGroupedInt8, {}, {}, {}};

bool is_hopper() { return kernel_architecture() == 90; }

/// Of the kernels for many tokens, with whole tiles.
ProductPlan expected_many(const WeightView& weight, int tokens) {
  return is_hopper() ? many(expected_many_tokens_plan(weight, tokens)) : many(many_tokens_tile_sm80(weight.channels, tokens));
}

/// Codes with zero points in float16, which only decoders multiply in, have kernels for few tokens alone.
bool has_kernels_for_many(const WeightView& weight) { return weight.arithmetic != Arithmetic::kFloat16 || !has_zero_points(weight.codes); }

std::vector<ProductPlan> many_plans(const WeightView& weight, int tokens, bool may_share) {
  std::vector<ProductPlan> plans;
  if (!has_kernels_for_many(weight)) return plans;
  if (!is_hopper()) return {many(ManyTokensTileSm80::kSmall), many(ManyTokensTileSm80::kMedium)};
  for (const ManyTokensPlan plan : many_tokens_plans(weight, tokens, may_share)) plans.push_back(many(plan));
  return plans;
}

/// Of a kernel for many tokens, and nobody shares the inputs of a tile.
bool has_whole_tiles(const ProductPlan& plan) {
  return plan.kernel == ProductPlan::Kernel::kManyTokensSm80 || (plan.kernel == ProductPlan::Kernel::kManyTokensSm90 && plan.many.parts == 1);
}

/// On the emulator, where time means nothing, all plans take turns: each gets its share of tests.
ProductPlan in_turn(const WeightView& weight, int tokens, bool may_share) {
  const std::vector<ProductPlan> plans = many_plans(weight, tokens, may_share);
  return plans[static_cast<size_t>(tokens) % plans.size()];
}

}  // namespace

ProductPlan choose_product_plan(const WeightView& weight, int tokens, MatmulKernel kernel) {
  if (is_grouped_int8(weight)) return kGroupedInt8;
  const bool emulated = gpu_properties().emulated;
  const ProductPlanRow* const row = emulated ? nullptr : find_product_plan_row(weight);
  const auto measured = [&](int of_class) { return row ? product_plan_of(word_at(row->plans, of_class), weight, tokens) : std::nullopt; };
  if (!has_kernels_for_many(weight) || tokens == 0) return few(few_plans(weight)[0]);  // without tokens there are no tiles to share out
  if (kernel == MatmulKernel::kManyTokens) {
    // Whole tiles: any of them gives the same bits.
    if (emulated) return in_turn(weight, tokens, false);
    const auto plan = measured(token_class(tokens));
    return plan && has_whole_tiles(*plan) ? *plan : expected_many(weight, tokens);
  }
  if (kernel == MatmulKernel::kByTokens) {
    const bool expects_many = tokens > kMostFewTokensUnmeasured;
    if (emulated && expects_many) return in_turn(weight, tokens, true);
    const auto plan = measured(token_class(tokens));
    if (plan && plan->kernel != ProductPlan::Kernel::kFewTokens) return *plan;
    if (!plan && expects_many) return expected_many(weight, tokens);
  }
  // For few tokens one plan, whatever their number.
  const auto plan = measured(0);
  if (plan && plan->kernel == ProductPlan::Kernel::kFewTokens) return *plan;
  return few(few_plans(weight)[0]);
}

std::vector<ProductPlan> product_plans(const WeightView& weight, int tokens) {
  if (is_grouped_int8(weight)) return {kGroupedInt8};
  std::vector<ProductPlan> plans;
  constexpr int kMostTokensOfFew = 128, kFewestTokensOfMany = 17;
  if (tokens <= kMostTokensOfFew) {
    for (const FewTokensPlan& plan : few_plans(weight)) plans.push_back(few(plan));
  }
  if (tokens >= kFewestTokensOfMany) {
    for (const ProductPlan& plan : many_plans(weight, tokens, true)) plans.push_back(plan);
  }
  return plans;
}

std::string code_of(const ProductPlan& plan) {
  switch (plan.kernel) {
    case ProductPlan::Kernel::kFewTokens:
      return std::to_string(plan.few.band_blocks) + "/" + (plan.few.parts == 0 ? "*" : std::to_string(plan.few.parts));
    case ProductPlan::Kernel::kManyTokensSm80: return plan.many_sm80 == ManyTokensTileSm80::kSmall ? "s/1" : "m/1";
    case ProductPlan::Kernel::kGroupedInt8: return "g/1";
    case ProductPlan::Kernel::kManyTokensSm90: break;
  }
  return std::string{kTileLetters[static_cast<size_t>(plan.many.tile)], '/'} +
         (plan.many.parts == kEqualParts ? "*" : std::to_string(plan.many.parts));
}

std::optional<ProductPlan> product_plan_of(std::string_view code, const WeightView& weight, int tokens) {
  if (is_grouped_int8(weight)) return code == code_of(kGroupedInt8) ? std::optional(kGroupedInt8) : std::nullopt;
  const bool is_few = !code.empty() && code[0] >= '0' && code[0] <= '9';
  if (is_few) {
    for (const FewTokensPlan& plan : few_plans(weight)) {
      if (code_of(few(plan)) == code) return few(plan);
    }
    return std::nullopt;
  }
  for (const ProductPlan& plan : many_plans(weight, tokens, true)) {
    if (code_of(plan) == code) return plan;
  }
  return std::nullopt;
}

}  // namespace usmlite::cuda
