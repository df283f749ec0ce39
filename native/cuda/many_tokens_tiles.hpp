// The tiles that kernels for many tokens on Hopper are made for: large ones read each operand less often, small ones keep
// all multiprocessors busy when there is little to do.
#pragma once

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
// For 2:4 weights in 16-bit floats, whose products wait for shared memory sooner.
using TallTile = Tile<2, 64, 1, 1, 1, 2>;
using LoneLargeTile = Tile<2, 256, 1, 1, 1, 1>;

}  // namespace usmlite::cuda
