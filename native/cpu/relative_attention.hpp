// Self-attention with relative positions as in Transformer-XL (Dai et al. 2019, section 3.3), within each sequence of a
// packed batch, over all of the sequence or over a window around each frame.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"
#include "cpu/attention.hpp"

namespace usmlite::cpu {

/// For every sequence and head: out = softmax(scale * ((q_i + u) k_j + (q_i + v) p(i - j))) v_j. `rotary` and `dropout` of the base
/// are not used.
struct RelativeAttentionProblem : AttentionProblem {
  const float* positions;     // (position_rows, heads * head_dim): row n is p(origin - n)
  int64_t position_rows;
  int64_t origin;             // distance i - j that the first row stands for
  const float* content_bias;  // u (heads * head_dim)
  const float* position_bias; // v (heads * head_dim)
  int64_t left, right;        // frame i sees i - left .. i + right; negative: no limit
};

/// Gradients of what a problem holds, each of its shape. Those of positions and biases are added to.
struct RelativeAttentionGradients {
  float* query;
  float* key;
  float* value;
  float* positions;
  float* content_bias;
  float* position_bias;
};

USMLITE_FOR_EACH_ISA(
  void relative_attention(const RelativeAttentionProblem& problem, float* out);
  // `out` is what the forward pass gave, `gradient` that of it. One head's scores of one sequence exist at a time and thread.
  void relative_attention_backward(const RelativeAttentionProblem& problem, const float* out, const float* gradient,
                                   const RelativeAttentionGradients& gradients);
)
USMLITE_DISPATCH(relative_attention)
USMLITE_DISPATCH(relative_attention_backward)

}  // namespace usmlite::cpu
