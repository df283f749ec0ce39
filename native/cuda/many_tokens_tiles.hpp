// The tiles that kernels for many tokens on Hopper are made for: large ones read each operand less often, small ones keep
// all multiprocessors busy when there is little to do; and how blocks divide tiles where there are too few of them.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>

namespace usmlite::cuda {

/// A block's tile: blocks of 64 channels and tokens; blocks of a cluster along both; blocks that share a multiprocessor;
/// boxes of activations multiplied at a time (matmul_many_tokens_sm90.cuh).
template <int Consumers_, int N_, int ClusterChannels_, int ClusterTokens_, int Residency_, int UnitBoxes_> struct Tile {
  static constexpr int Consumers = Consumers_, N = N_, ClusterChannels = ClusterChannels_, ClusterTokens = ClusterTokens_;
  static constexpr int Residency = Residency_, UnitBoxes = UnitBoxes_;
};

using SmallTile = Tile<1, 64, 1, 1, 2, 2>;
using MediumTile = Tile<2, 128, 1, 1, 1, 2>;
using LargeTile = Tile<2, 256, 2, 1, 1, 1>;
// For 2:4 weights in 16-bit floats alone, whose products wait for shared memory sooner.
using TallTile = Tile<2, 64, 1, 1, 1, 2>;
using LoneLargeTile = Tile<2, 256, 1, 1, 1, 1>;

/// How clusters of blocks divide the inputs of tiles between them; in *pairs* of units (matmul_many_tokens_sm90.cuh).
struct TileParts {
  int pairs;     // of a tile
  int clusters;  // that take equal parts of the sequence (tile, pair); 0: clusters take whole tiles in turn
  int slots;     // places for partial sums of a cluster: its part begins in one tile, and may end in another
};

/// Equal parts for all clusters that run at a time, wherever tiles begin ("stream-K", Osama et al., arXiv 2301.03598).
inline constexpr int kEqualParts = 0;

/// `parts`: of each tile, 1 for whole ones, or kEqualParts. `places`: clusters that run at a time. What cannot be had gives
/// whole tiles.
inline TileParts divide_tiles(int tiles, int pairs, int places, int parts) {
  const TileParts whole{pairs, 0, 0};
  constexpr int kMostTiles = 1024;  // each takes counters; so many are spread well enough
  if (parts == 1 || tiles > kMostTiles || int64_t{tiles} * pairs * (places + 1) > std::numeric_limits<int>::max()) return whole;
  if (parts == kEqualParts) {
    const int clusters = static_cast<int>(std::min<int64_t>(places, int64_t{tiles} * pairs));
    return tiles % clusters == 0 ? whole : TileParts{pairs, clusters, 2};
  }
  if (parts > pairs || int64_t{tiles} * parts > places) return whole;
  return {pairs, tiles * parts, 1};
}

/// Whether blocks may share tiles: the sums of larger ones take the registers that adding takes too.
template <class T> inline constexpr bool kTileMayBeShared = T::N <= 128;

/// Floats that partial sums take, and counters, of which there is one for each 64 channels of a tile.
template <class T> int64_t partial_sum_count(const TileParts& parts) {
  return int64_t{parts.clusters} * parts.slots * T::ClusterChannels * T::ClusterTokens * T::Consumers * 64 * T::N;
}
template <class T> int counter_count(int tiles) { return tiles * T::ClusterChannels * T::ClusterTokens * T::Consumers; }

}  // namespace usmlite::cuda
