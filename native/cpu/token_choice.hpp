// Which token comes next: the likeliest of those that may, and how probable they are.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

/// What may follow a sequence, as the bindings lay it out in int32.
struct TokenRules {
  /// Which row of the biases is added to the scores: 0, or minus infinity for tokens that never come.
  int32_t bias;
  /// [begin, end) of tokens that may not come now; empty where both are equal.
  int32_t forbidden[2][2];
  /// Tokens from here on come alone when all of them together are likelier than the likeliest token before them.
  int32_t together;
};
inline constexpr int64_t kTokenRuleNumbers = sizeof(TokenRules) / sizeof(int32_t);
/// Of a chosen token: its number, or -1 where fewer may come than were asked for; the logarithm of its probability among all tokens; and
/// of that among those that may come.
inline constexpr int64_t kTokenChoiceNumbers = 3;

USMLITE_FOR_EACH_ISA(
  // choices (rows, count, 3): the `count` likeliest tokens that may come for each row of scores (rows, vocabulary), before softmax; the
  // first of equals. bias (any, vocabulary). A row with a score that is NaN or positive infinity gives NaN.
  void choose_tokens(const float* scores, const float* bias, const TokenRules* rules, int64_t rows, int64_t vocabulary, int64_t count,
                     float* choices);
)
USMLITE_DISPATCH(choose_tokens)

}  // namespace usmlite::cpu
