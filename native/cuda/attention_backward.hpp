// Gradients of attention.
#pragma once
#include "cuda/attention.hpp"
#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"
#include "cuda/scratch_matrix.hpp"

namespace usmlite::cuda {

struct AttentionBackwardArguments {
  const DeviceMatrix *query, *out, *gradient;  // (frames, heads * head_dim) kBFloat16, as all gradients are
  const DeviceMatrix *key, *value;             // (frames, key_heads * head_dim)
  const DeviceMatrix* log_sum;                 // (heads, queries) float32, as the forward pass left it
  const DeviceMatrix *gradient_query, *gradient_key, *gradient_value;  // like query, key and value
  int heads, key_heads;
  float scale;
  // Those of the forward pass:
  Dropout dropout;
  const PackedSequences* keys = nullptr;
  bool causal = false;
};

/// Scores are made again tile by tile (Dao et al. 2022): once for the gradients of keys and values, once for those of queries, so
/// that every sum has one order.
void attention_backward(const AttentionBackwardArguments& arguments, const PackedSequences& queries, const Stream& stream);

/// gradient . out of every head of every frame, float32 (heads, frames): the mean that scores' gradients are less.
ScratchMatrix attention_means(const DeviceMatrix& out, const DeviceMatrix& gradient, int heads, const Stream& stream);

}  // namespace usmlite::cuda
