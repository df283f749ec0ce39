// Chooses the tile by how long it takes, as measured on an H100: every box of activations (128 bytes of inputs) takes at
// least a certain time, more when what all multiprocessors fetch exceeds the bandwidth of the second-level cache; every
// tile takes some time to start and to store.
#include <algorithm>

#include "cuda/many_tokens_tiles.hpp"
#include "cuda/matmul_many_tokens_sm90.hpp"

namespace usmlite::cuda {

namespace {

struct TileCost {
  int channels, tokens;
  int activation_sharers;            // blocks of a cluster that share a fetch
  double sparse_box_us, dense_box_us;  // with nothing else running
  double tile_us;
};

template <class T> constexpr TileCost tile_cost(double sparse_box_us, double dense_box_us, double tile_us) {
  return {T::Consumers * kBlockChannels, T::N, T::ClusterChannels, sparse_box_us, dense_box_us, tile_us};
}

constexpr TileCost kTileCosts[] = {tile_cost<SmallTile>(0.16, 0.20, 0.9), tile_cost<MediumTile>(0.21, 0.30, 1.3),
                                   tile_cost<LargeTile>(0.37, 0.60, 2.0)};  // in the order of ManyTokensTile

/// Bytes that the second-level cache delivers to all multiprocessors in a microsecond.
constexpr double kCacheBytesPerMicrosecond = 9.0e6;
constexpr int kBoxBytesPerToken = 128;

double estimated_us(const TileCost& cost, const WeightView& w, int tokens, int multiprocessors) {
  const int element_bytes = w.arithmetic == Arithmetic::kInt8 || w.arithmetic == Arithmetic::kFloat8 ? 1 : 2;
  const double boxes = static_cast<double>(w.inputs) * element_bytes / kBoxBytesPerToken;
  const double weight_bytes = w.slices / boxes * (cost.channels / kTileChannels) * (tile_bytes(w.codes) + (w.sparse ? kMetadataBytesPerTile : 0));
  const double bytes = static_cast<double>(cost.tokens) * kBoxBytesPerToken / cost.activation_sharers + weight_bytes;
  const auto round_us = [&](int64_t tiles) {
    const double box_us = std::max(w.sparse ? cost.sparse_box_us : cost.dense_box_us, tiles * bytes / kCacheBytesPerMicrosecond);
    return boxes * box_us + cost.tile_us;
  };
  const int64_t tiles = int64_t{(w.channels + cost.channels - 1) / cost.channels} * ((tokens + cost.tokens - 1) / cost.tokens);
  const int64_t rest = tiles % multiprocessors;
  return tiles / multiprocessors * round_us(multiprocessors) + (rest > 0 ? round_us(rest) : 0);
}

}  // namespace

ManyTokensTile many_tokens_tile(const WeightView& weight, int tokens, int multiprocessors) {
  const auto cost = [&](const TileCost& tile) { return estimated_us(tile, weight, tokens, multiprocessors); };
  const auto fastest = std::min_element(std::begin(kTileCosts), std::end(kTileCosts),
                                        [&](const TileCost& a, const TileCost& b) { return cost(a) < cost(b); });
  return static_cast<ManyTokensTile>(fastest - std::begin(kTileCosts));
}

}  // namespace usmlite::cuda
