// Softmax attention within each sequence of a packed batch, rotary embedding and dropout inside.
#pragma once
#include <cstdint>

#include "core/dropout.hpp"
#include "core/instruction_set.hpp"
#include "core/rotary_table.hpp"

namespace usmlite::cpu {

/// For every sequence and head: out = dropout(softmax(scale * rotate(q) rotate(k)^T)) v. Query head h reads key and
/// value head h / (heads / key_value_heads).
struct AttentionProblem {
  const int32_t* offsets;  // (sequences + 1)
  int64_t sequences;
  int64_t heads, key_value_heads, head_dim;
  float scale;
  const RotaryTable* rotary;  // null: no rotation
  Dropout dropout;            // of probabilities; see dropout_index
  const float* query;         // (frames, heads * head_dim)
  const float* key;           // (frames, key_value_heads * head_dim)
  const float* value;         // (frames, key_value_heads * head_dim)

  int64_t query_width() const { return heads * head_dim; }
  int64_t key_width() const { return key_value_heads * head_dim; }

  /// Index in the dropout stream of the probability that row `frame` of the batch gives to the first key of its
  /// sequence; keys follow. Room for 2^18 frames per sequence (about three hours at 40 ms).
  uint64_t dropout_index(int64_t frame, int64_t head) const {
    return static_cast<uint64_t>(frame * heads + head) << 18;
  }
};

USMLITE_FOR_EACH_ISA(
  // log_sum(frames, heads), when not null, gets log(sum(exp(scores))) of each row for the backward pass.
  void attention_forward(const AttentionProblem& problem, float* out, float* log_sum);
  // `out` and `log_sum` are what the forward pass gave. Scores are computed again, block by block.
  void attention_backward(const AttentionProblem& problem, const float* out, const float* log_sum,
                          const float* gradient, float* gradient_query, float* gradient_key, float* gradient_value);
)
USMLITE_DISPATCH(attention_forward)
USMLITE_DISPATCH(attention_backward)

}  // namespace usmlite::cpu
