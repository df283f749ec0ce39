// Rotary position embedding (Su et al. 2021) of queries and keys.
#pragma once
#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// In place: rotates the pairs (i, i + head_dim / 2) of every head by position * theta^(-2 i / head_dim), positions from 0
/// in each sequence; `inverse` turns them back, which is also the gradient. query (frames, heads * head_dim): 16-bit floats; head_dim
/// even. key: like it, or null.
void rotate_heads(const DeviceMatrix& query, const DeviceMatrix* key, int heads, float theta, bool inverse, const PackedSequences& sequences,
                  const Stream& stream);

}  // namespace usmlite::cuda
