// Which parts of which tiles a cluster of blocks multiplies, and how the sums of blocks that share a tile come together: each
// leaves its sums in global memory, which the second-level cache holds, and the last to come adds all in the order of the inputs.
#pragma once

#include "cuda/many_tokens_tiles.hpp"
#include "cuda/matmul_arguments.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {

#if USMLITE_SM90A

/// Goes through the parts of a cluster, one of `stride` that run. Where a part begins and ends is worked out when it is asked for:
/// kept, it would take registers that the products need. Without `kShares` tiles are whole.
template <bool kShares> struct TileWalk {
  TileParts parts;
  int tiles, cluster, stride;
  int tile;

  __device__ __forceinline__ int first_pair(int of) const {
    return tiles * parts.pairs * of / parts.clusters;  // divide_tiles keeps that within 32 bits
  }
  __device__ __forceinline__ TileWalk(const TileParts& parts, int tiles, int cluster, int stride)
      : parts(parts), tiles(tiles), cluster(cluster), stride(stride),
        tile(is_divided() ? first_pair(cluster) / parts.pairs : cluster) {}
  __device__ __forceinline__ bool is_divided() const { return kShares && parts.clusters != 0; }
  __device__ __forceinline__ bool is_over() const {
    return is_divided() ? tile * parts.pairs >= first_pair(cluster + 1) : tile >= tiles;
  }
  /// The pairs of this part: begin..end of those of the tile.
  __device__ __forceinline__ int begin() const { return is_divided() ? max(first_pair(cluster) - tile * parts.pairs, 0) : 0; }
  __device__ __forceinline__ int end() const {
    return is_divided() ? min(first_pair(cluster + 1) - tile * parts.pairs, parts.pairs) : parts.pairs;
  }
  __device__ __forceinline__ bool is_whole() const { return !is_divided() || end() - begin() == parts.pairs; }
  __device__ __forceinline__ void advance() { tile += is_divided() ? 1 : stride; }
};

/// Adds the sums of all blocks that share a tile, by a warpgroup that has `d` for its 64 channels and N tokens of the part
/// that `walk` is at. True for the last of them to come, which then has all in `d`. `place`: of the cluster's warpgroups this
/// one, among `places`. `flag`: a word of shared memory and `barrier` a named barrier of the warpgroup alone.
template <int N, typename Sum>
__device__ __forceinline__ bool add_parts(const MatmulArguments& m, const TileWalk<true>& walk, int place, int places, int* flag, int barrier,
                                          Sum (&d)[N / 2]) {
  struct alignas(16) FourSums {
    Sum sums[4];
  };
  const int thread = static_cast<int>(threadIdx.x & 127);
  const TileParts& parts = walk.parts;
  const int all = walk.tiles * parts.pairs, first_pair = walk.tile * parts.pairs;
  const auto owner = [&](int pair) { return ((pair + 1) * parts.clusters - 1) / all; };
  const int first = owner(first_pair), last = owner(first_pair + parts.pairs - 1);
  const auto partial_sums = [&](int of) {
    // The first tile of a cluster has its first place, another that it shares the second.
    const int slot = walk.first_pair(of) / parts.pairs == walk.tile ? 0 : parts.slots - 1;
    const int64_t index = (static_cast<int64_t>(of) * parts.slots + slot) * places + place;
    return reinterpret_cast<FourSums*>(m.partial_sums) + index * (64 * N / 4) + thread;
  };
  FourSums* const own = partial_sums(walk.cluster);
#pragma unroll
  for (int i = 0; i < N / 8; ++i) own[i * 128] = FourSums{{d[4 * i], d[4 * i + 1], d[4 * i + 2], d[4 * i + 3]}};
  ptx::named_barrier_sync(barrier, 128);
  if (thread == 0) {
    int* const counter = m.counters + walk.tile * places + place;
    *flag = ptx::atomic_add(counter, 1) == last - first;
    if (*flag) *counter = 0;
  }
  ptx::named_barrier_sync(barrier, 128);
  if (!*flag) return false;
#pragma unroll
  for (int i = 0; i < N / 2; ++i) d[i] = 0;
#pragma unroll 1
  for (int of = first; of <= last; ++of) {
    const FourSums* const from = partial_sums(of);
#pragma unroll
    for (int i = 0; i < N / 8; ++i) {
      const FourSums part = from[i * 128];
#pragma unroll
      for (int j = 0; j < 4; ++j) d[4 * i + j] += part.sums[j];
    }
  }
  return true;
}

#endif  // USMLITE_SM90A

}  // namespace usmlite::cuda
