// Chooses the tile by how long it takes, as measured on an H100: every box of activations (128 bytes of inputs) takes at
// least a certain time, more when what all multiprocessors fetch exceeds the bandwidth of the second-level cache; every
// tile takes some time to start and to store.
#include <algorithm>
#include <iterator>
#include <limits>

#include "cuda/many_tokens_tiles.hpp"
#include "cuda/matmul_many_tokens_sm90.hpp"
#include "cuda/runtime.hpp"

namespace usmlite::cuda {

namespace {

struct TileCost {
  int channels, tokens;
  int activation_sharers;  // blocks of a cluster that share a fetch
  // With nothing else running; infinite where there is no such tile.
  double sparse_float_box_us, sparse_whole_box_us, dense_box_us;
  double tile_us;
};

template <class T> constexpr TileCost tile_cost(double sparse_float_box_us, double sparse_whole_box_us, double dense_box_us, double tile_us) {
  return {T::Consumers * kBlockChannels, T::N, T::ClusterChannels, sparse_float_box_us, sparse_whole_box_us, dense_box_us, tile_us};
}

constexpr double kNone = std::numeric_limits<double>::infinity();
// Fitted to 14 shapes of 2:4 weights (bfloat16, int4, int8) and dense ones: what it chooses is 0.2 % slower on average than
// the best tile of each, 8 % at worst. In the order of ManyTokensTile.
constexpr TileCost kTileCosts[] = {tile_cost<SmallTile>(0.12, 0.17, 0.17, 0.03), tile_cost<MediumTile>(0.23, 0.31, 0.29, 1.26),
                                   tile_cost<LargeTile>(0.41, 0.48, 0.63, 2.57), tile_cost<TallTile>(0.21, kNone, kNone, 0.60),
                                   tile_cost<LoneLargeTile>(0.44, kNone, kNone, 1.20)};

/// Bytes that the second-level cache delivers to all multiprocessors in a microsecond.
constexpr double kCacheBytesPerMicrosecond = 11.6e6;
constexpr int kBoxBytesPerToken = 128;

double estimated_us(const TileCost& cost, const WeightView& w, int tokens, int multiprocessors) {
  const int element_bytes = w.arithmetic == Arithmetic::kInt8 || w.arithmetic == Arithmetic::kFloat8 ? 1 : 2;
  const double boxes = static_cast<double>(w.inputs) * element_bytes / kBoxBytesPerToken;
  const double weight_bytes = w.slices / boxes * (cost.channels / kTileChannels) * (tile_bytes(w.codes) + (w.sparse ? kMetadataBytesPerTile : 0));
  const double bytes = static_cast<double>(cost.tokens) * kBoxBytesPerToken / cost.activation_sharers + weight_bytes;
  const double least_box_us = !w.sparse ? cost.dense_box_us : element_bytes == 1 ? cost.sparse_whole_box_us : cost.sparse_float_box_us;
  const auto round_us = [&](int64_t tiles) {
    return boxes * std::max(least_box_us, tiles * bytes / kCacheBytesPerMicrosecond) + cost.tile_us;
  };
  const int64_t tiles = int64_t{(w.channels + cost.channels - 1) / cost.channels} * ((tokens + cost.tokens - 1) / cost.tokens);
  const int64_t rest = tiles % multiprocessors;
  return tiles / multiprocessors * round_us(multiprocessors) + (rest > 0 ? round_us(rest) : 0);
}

}  // namespace

ManyTokensTile many_tokens_tile(const WeightView& weight, int tokens) {
  const GpuProperties& gpu = gpu_properties();
  if (gpu.emulated) return static_cast<ManyTokensTile>(tokens % static_cast<int>(std::size(kTileCosts)));
  const auto cost = [&](const TileCost& tile) { return estimated_us(tile, weight, tokens, gpu.multiprocessors); };
  const auto fastest = std::min_element(std::begin(kTileCosts), std::end(kTileCosts),
                                        [&](const TileCost& a, const TileCost& b) { return cost(a) < cost(b); });
  return static_cast<ManyTokensTile>(fastest - std::begin(kTileCosts));
}

}  // namespace usmlite::cuda
