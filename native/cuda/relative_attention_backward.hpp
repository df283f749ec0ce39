// Gradients of attention with relative positions.
#pragma once
#include "cuda/attention.hpp"
#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

struct RelativeAttentionBackwardArguments {
  const DeviceMatrix *query, *out, *gradient;                            // (frames, heads * head_dim) kBFloat16, as all gradients are
  const DeviceMatrix *key, *value;                                       // (frames, key_heads * head_dim)
  const DeviceMatrix *positions, *content_bias, *position_bias;          // of that type, as AttentionArguments has them
  const DeviceMatrix* log_sum;                                           // (heads, frames) float32, as the forward pass left it
  const DeviceMatrix *gradient_query, *gradient_key, *gradient_value;    // like query, key and value
  const DeviceMatrix *gradient_positions;                                // float32, like positions
  const DeviceMatrix *gradient_content_bias, *gradient_position_bias;    // float32 (heads * head_dim)
  int heads, key_heads;
  float scale;
  int origin;
  AttentionWindow window;
};

/// One pass makes the probabilities and the gradients of scores again and keeps them, a bfloat16 for every pair of frames that see each
/// other, until they have been multiplied: positions would make them a third and a fourth time as dear. Sums over frames have one order.
void relative_attention_backward(const RelativeAttentionBackwardArguments& arguments, const PackedSequences& sequences,
                                 const Stream& stream);

}  // namespace usmlite::cuda
