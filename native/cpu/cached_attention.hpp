// Attention of a few queries over other keys and values: the decoder of a sequence-to-sequence model, looking at its own past or at
// the encoder's frames, one token at a time or, in training, all at once.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

/// For every sequence and head: out = softmax(scale * q k^T) v over the keys of that sequence.
struct CachedAttentionProblem {
  const int32_t* query_offsets;  // (sequences + 1)
  const int32_t* key_offsets;    // (sequences + 1) into key_rows
  const int32_t* key_rows;       // rows of key and value; null: the offsets are rows themselves
  int64_t sequences, heads, head_dim;
  float scale;
  bool causal;         // the last query of a sequence sees all of its keys, the one before all but the last, ..
  const float* query;  // (queries, heads * head_dim)
  const float* key;    // (rows, heads * head_dim)
  const float* value;  // (rows, heads * head_dim)

  int64_t width() const { return heads * head_dim; }
  int64_t row(int64_t index) const { return key_rows ? key_rows[index] : index; }
  /// Keys that query `i` of `queries` sees.
  int64_t visible(int64_t i, int64_t queries, int64_t keys) const { return causal ? keys - (queries - 1 - i) : keys; }
};

USMLITE_FOR_EACH_ISA(
  void cached_attention(const CachedAttentionProblem& problem, float* out);
  // Gradients of query, key and value, given that of `out`; without key_rows. Rows that no query sees get zeros.
  void cached_attention_backward(const CachedAttentionProblem& problem, const float* gradient, float* gradient_query,
                                 float* gradient_key, float* gradient_value);
)
USMLITE_DISPATCH(cached_attention)
USMLITE_DISPATCH(cached_attention_backward)

}  // namespace usmlite::cpu
