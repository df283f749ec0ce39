// Which plans were the fastest on an architecture (product_plans_sm90.inc), made by bench/gpu/tune_products.ts. Inputs and
// outputs fall into classes of half an octave, tokens into classes of an octave or less.
#pragma once
#include <string_view>

#include "cuda/matmul_arguments.hpp"

namespace usmlite::cuda {

struct ProductPlanRow {
  std::string_view kind;  // weight_kind
  int outputs, inputs;    // size_class
  std::string_view plans; // codes (product_plan.hpp), for each class of tokens from the first on
};

/// Of the GPU's architecture, or of the file that USMLITE_PRODUCT_PLANS names, in the same form: a table measured on the very
/// GPU, without compiling it in. Null where there is no such row.
const ProductPlanRow* find_product_plan_row(const WeightView& weight);

/// Of products of two dense matrices (dense_product.hpp): the way for so many tokens; empty where the table has none.
std::string_view dense_way(int channels, int inputs, int tokens);

/// How weights are told apart: codes and arithmetic, as in "int4+2:4 bfloat16". Scales per group make no difference.
std::string_view weight_kind(const WeightView& weight);

/// Sizes within a quarter of an octave of 2^(class / 2).
int size_class(int size);

/// The class of up to kTokenClasses[i] tokens is i, beyond it is the last.
inline constexpr int kTokenClasses[] = {16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096};
int token_class(int tokens);

/// The word of `words`, separated by spaces, that `index` counts to; the last one where there are fewer.
std::string_view word_at(std::string_view words, int index);

}  // namespace usmlite::cuda
