// relative_attention.hpp in whole numbers of 16 bits, rounded as in integer_attention.hpp: queries with either bias, keys and positions
// have a scale for each row.
#pragma once
#include "cpu/integer_attention.hpp"
#include "cpu/relative_attention.hpp"

namespace usmlite::cpu {

USMLITE_FOR_EACH_ISA(void integer_relative_attention(const RelativeAttentionProblem& problem, float* out);)
namespace avx2vnni {
void integer_relative_attention(const RelativeAttentionProblem& problem, float* out);
}
namespace without_vnni {
USMLITE_DISPATCH(integer_relative_attention)
}

inline void integer_relative_attention(const RelativeAttentionProblem& problem, float* out) {
  if (active_instruction_set() == InstructionSet::kAvx2Vnni) return avx2vnni::integer_relative_attention(problem, out);
  without_vnni::integer_relative_attention(problem, out);
}

}  // namespace usmlite::cpu
