// Which tokens may come next and are likeliest: all that writing token after token needs of a decoder's scores.
#pragma once
#include "cpu/token_choice.hpp"
#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

struct TokenChoiceArguments {
  const DeviceMatrix* scores;   // (rows, vocabulary), 16-bit floats
  const DeviceMatrix* bias;     // (any, vocabulary) float32
  PackedSequences rules;        // one sequence of rows * kTokenRuleNumbers, the cpu::TokenRules of each row
  int count;                    // of tokens that are chosen for each row
  const DeviceMatrix* choices;  // (rows, count * kTokenChoiceNumbers) float32: what cpu::choose_tokens gives
};
void choose_tokens(const TokenChoiceArguments& arguments, const Stream& stream);

}  // namespace usmlite::cuda
