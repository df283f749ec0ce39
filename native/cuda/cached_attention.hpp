// Attention of a few queries over other keys and values, in inference: the decoder of a sequence-to-sequence model.
#pragma once
#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// What cpu::CachedAttentionProblem describes, with 16-bit floats of one type; heads of an even number of values, up to 256.
struct CachedAttentionArguments {
  const DeviceMatrix* query;        // (queries, heads * head_dim)
  const DeviceMatrix *key, *value;  // (rows, heads * head_dim)
  int heads;
  float scale;
  bool causal;  // the last query of a sequence sees all of its keys, the one before all but the last, ..
};

inline constexpr int kLargestCachedHead = 256;

/// out like query. A sequence that has queries has keys.
void cached_attention(const CachedAttentionArguments& arguments, const PackedSequences& queries, const PackedSequences& keys, const DeviceMatrix& out,
                      const Stream& stream);

/// Rows of keys and values of new tokens, and the cache (rows, columns) that they go into; all of one type.
struct CacheExtension {
  const DeviceMatrix *keys, *values;              // (queries, columns)
  const DeviceMatrix *cached_keys, *cached_values;
};

/// Those of a sequence become its last rows in the cache, in their order.
void extend_cache(const CacheExtension& extension, const PackedSequences& queries, const PackedSequences& keys, const Stream& stream);

}  // namespace usmlite::cuda
