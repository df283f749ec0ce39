// What may follow sequences, as both devices are told.
#pragma once
#include "cpu/token_choice.hpp"
#include "napi/arguments.hpp"

namespace usmlite::binding {

/// int32 (rows, 6), as cpu::TokenRules; `biases`: how many rows of biases there are.
inline const Tensor& token_rules_argument(const Arguments& arguments, size_t index, int64_t rows, int64_t vocabulary, int64_t biases) {
  const Tensor& rules = arguments.tensor(index, "rules", DType::kInt32, {rows, cpu::kTokenRuleNumbers});
  for (int64_t i = 0; i < rules.count(); ++i) {
    const int32_t value = rules.i32()[i];
    const bool is_bias = i % cpu::kTokenRuleNumbers == 0;
    if (value < 0 || (is_bias ? value >= biases : value > vocabulary)) {
      arguments.fail(is_bias ? "there is no bias " + std::to_string(value) + "; there are " + std::to_string(biases)
                             : "token " + std::to_string(value) + " is none of the " + std::to_string(vocabulary));
    }
  }
  return rules;
}

inline constexpr int64_t kMostTokenChoices = 64;

}  // namespace usmlite::binding
