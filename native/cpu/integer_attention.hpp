// Softmax attention in whole numbers of 16 bits, for models whose layers are multiplied in whole numbers too. Like attention.hpp, without
// dropout; attention_backward gives its gradients too, as if nothing had been rounded.
#pragma once
#include "cpu/attention.hpp"

namespace usmlite::cpu {

/// Rotated rows of queries and keys have a scale each, and 12 bits; values a scale for each column of a head in a sequence, and 11 bits;
/// exp(score - largest score so far) has 13 bits without a sign. Sums are exact within a block of keys and float32 over blocks.
inline constexpr int32_t kLargestScoreCode = 2047, kLargestValueCode = 1023, kLargestPowerCode = 8191;
/// Keys of a block: kIntegerKeyBlock * 8191 * 1023 < 2^31.
inline constexpr int64_t kIntegerKeyBlock = 256;
/// Values of a head: kWidestIntegerHead * 2047 * 2047 < 2^31.
inline constexpr int64_t kWidestIntegerHead = 512;

// log_sum(frames, heads), when not null, gets log(sum(exp(scores))) of each row for the backward pass.
USMLITE_FOR_EACH_ISA(void integer_attention(const AttentionProblem& problem, float* out, float* log_sum);)
namespace avx2vnni {
void integer_attention(const AttentionProblem& problem, float* out, float* log_sum);
}
namespace without_vnni {
USMLITE_DISPATCH(integer_attention)
}

inline void integer_attention(const AttentionProblem& problem, float* out, float* log_sum) {
  if (active_instruction_set() == InstructionSet::kAvx2Vnni) return avx2vnni::integer_attention(problem, out, log_sum);
  without_vnni::integer_attention(problem, out, log_sum);
}

}  // namespace usmlite::cpu
