// Which keys a tile of queries sees around itself, and where the positions of their distances lie.
#pragma once

#include "cuda/attention_tiles.cuh"

namespace usmlite::cuda {

namespace attention_tiles {

/// Query i sees the keys i - left .. i + right; row n of the positions belongs to the distance i - j = origin - n.
struct PositionWindow {
  int origin, rows, left, right;

  /// Of the keys that the kQueries queries from `first` on see, or one before it: where a tile begins.
  __device__ __forceinline__ int first_key(int first) const { return max(0, first - left) / kPositionKeys * kPositionKeys; }
  /// Behind the last key that they see.
  __device__ __forceinline__ int keys_end(int first, int length) const { return min(length, first + kQueries + right); }
  __device__ __forceinline__ bool sees(int query, int key) const {
    return static_cast<unsigned>(key - query + left) <= static_cast<unsigned>(left + right);
  }
  /// Row n of the positions that a tile of these queries with the keys from `key` on needs is first_row + n.
  __device__ __forceinline__ int first_row(int first, int key) const { return origin - (first + kQueries - 1) + key; }
  /// Most keys between first_key and keys_end.
  __host__ __device__ __forceinline__ int most_keys(int longest) const { return min(longest, left + right + kQueries + kPositionKeys); }
};

}  // namespace attention_tiles

}  // namespace usmlite::cuda
