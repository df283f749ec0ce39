// The order of the output tiles of a matrix product for many tokens.
#pragma once

#include "cuda/kernel_language.cuh"

namespace usmlite::cuda {

/// Output tiles in the order in which thread blocks or clusters take them: bands of about 2,048 tokens, in each all tokens of
/// one channel tile before the next, so that what runs at a time shares activations and weights in the second-level cache.
struct TileOrder {
  int token_tiles, channel_tiles;
  int band;  // token tiles

  __host__ __device__ __forceinline__ int count() const { return token_tiles * channel_tiles; }
  __device__ __forceinline__ void tile(int index, int& token_tile, int& channel_tile) const {
    const int per_band = band * channel_tiles, first = index / per_band * band, rest = index % per_band;
    const int rows = token_tiles - first < band ? token_tiles - first : band;
    channel_tile = rest / rows;
    token_tile = first + rest % rows;
  }
};

}  // namespace usmlite::cuda
