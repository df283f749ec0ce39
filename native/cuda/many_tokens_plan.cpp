// Chooses the plan of a product with many tokens on Hopper by how long it takes, as measured on an H100: every box of
// activations (128 bytes of inputs) takes at least a certain time, more when what all multiprocessors fetch exceeds the
// bandwidth of the second-level cache; every tile takes some time to start and to store.
#include <algorithm>
#include <iterator>
#include <limits>

#include "cuda/matmul_many_tokens_sm90.hpp"
#include "cuda/runtime.hpp"

namespace usmlite::cuda {

namespace {

struct TileCost {
  int blocks, tokens;  // of a cluster
  int channels, fetched_tokens;  // of a block of threads: channels, and the tokens whose activations it fetches
  int cluster, residency, unit_boxes;
  // With nothing else running; infinite where the model does not know the tile.
  double sparse_float_box_us, sparse_whole_box_us, dense_box_us;
  double tile_us;
  bool may_be_shared;
  int64_t (*partial_sums)(const TileParts&);
  int (*counters)(int);
};

template <class T> constexpr TileCost tile_cost(double sparse_float_box_us, double sparse_whole_box_us, double dense_box_us, double tile_us) {
  return {T::Consumers * T::ClusterChannels,
          T::N * T::ClusterTokens,
          T::Consumers * kBlockChannels,
          T::N / T::ClusterChannels,
          T::ClusterChannels * T::ClusterTokens,
          T::Residency,
          T::UnitBoxes,
          sparse_float_box_us,
          sparse_whole_box_us,
          dense_box_us,
          tile_us,
          kTileMayBeShared<T>,
          partial_sum_count<T>,
          counter_count<T>};
}

constexpr double kInfinite = std::numeric_limits<double>::infinity();
// Fitted to 14 shapes of 2:4 weights (bfloat16, int4, int8) and dense ones: what it chooses is 0.2 % slower on average than
// the best tile of each, 8 % at worst. In the order of ManyTokensTile.
constexpr TileCost kTileCosts[] = {tile_cost<SmallTile>(0.12, 0.17, 0.17, 0.03), tile_cost<MediumTile>(0.23, 0.31, 0.29, 1.26),
                                   tile_cost<LargeTile>(0.41, 0.48, 0.63, 2.57), tile_cost<TallTile>(0.21, kInfinite, kInfinite, 0.60),
                                   tile_cost<LoneLargeTile>(0.44, kInfinite, kInfinite, 1.20)};

/// Parts of a tile that are worth a try.
constexpr int kPartsTried[] = {1, 2, 3, 4, 6, kEqualParts};

bool is_16_bit(const WeightView& w) { return w.arithmetic == Arithmetic::kBFloat16 || w.arithmetic == Arithmetic::kFloat16; }

/// Whether there is a kernel of the weight for the tile (matmul_many_tokens_sm90_*.cu).
bool exists(const WeightView& w, ManyTokensTile tile) {
  const bool is_common = w.codes == Codes::kInt4 || (w.codes == Codes::kFloat16Bit && w.group_size == 0) ||
                         (w.codes == Codes::kInt8 && (w.arithmetic == Arithmetic::kInt8 || (!w.sparse && w.group_size == 0)));
  if (!is_common || w.arithmetic == Arithmetic::kFloat16 || w.arithmetic == Arithmetic::kFloat8) return tile == ManyTokensTile::kMedium;
  switch (tile) {
    case ManyTokensTile::kTall:
    case ManyTokensTile::kLoneLarge: return w.sparse && is_16_bit(w);
    default: return true;
  }
}

struct Tiles {
  int count, pairs, places;
};

Tiles tiles_of(const TileCost& tile, const WeightView& w, int tokens) {
  const int pair_inputs = 2 * tile.unit_boxes * (is_16_bit(w) ? 64 : 128);
  const int64_t count = int64_t{(w.blocks + tile.blocks - 1) / tile.blocks} * ((tokens + tile.tokens - 1) / tile.tokens);
  return {static_cast<int>(std::min<int64_t>(count, std::numeric_limits<int>::max())), (w.inputs + pair_inputs - 1) / pair_inputs,
          gpu_properties().multiprocessors * tile.residency / tile.cluster};
}

/// Bytes that the second-level cache delivers to all multiprocessors in a microsecond.
constexpr double kCacheBytesPerMicrosecond = 11.6e6;
constexpr int kBoxBytesPerToken = 128;

double estimated_us(const TileCost& cost, const WeightView& w, int tokens, int multiprocessors) {
  const int element_bytes = is_16_bit(w) ? 2 : 1;
  const double boxes = static_cast<double>(w.inputs) * element_bytes / kBoxBytesPerToken;
  const double weight_bytes = w.slices / boxes * (cost.channels / kTileChannels) * (tile_bytes(w.codes) + (w.sparse ? kMetadataBytesPerTile : 0));
  const double bytes = static_cast<double>(cost.fetched_tokens) * kBoxBytesPerToken + weight_bytes;
  const double least_box_us = !w.sparse ? cost.dense_box_us : element_bytes == 1 ? cost.sparse_whole_box_us : cost.sparse_float_box_us;
  const auto round_us = [&](int64_t tiles) {
    return boxes * std::max(least_box_us, tiles * bytes / kCacheBytesPerMicrosecond) + cost.tile_us;
  };
  const int64_t tiles = int64_t{(w.channels + cost.channels - 1) / cost.channels} * ((tokens + cost.tokens - 1) / cost.tokens);
  const int64_t rest = tiles % multiprocessors;
  return tiles / multiprocessors * round_us(multiprocessors) + (rest > 0 ? round_us(rest) : 0);
}

}  // namespace

ManyTokensPlan expected_many_tokens_plan(const WeightView& weight, int tokens) {
  const int multiprocessors = gpu_properties().multiprocessors;
  int fastest = 0;
  double least = kInfinite;
  for (int tile = 0; tile < static_cast<int>(std::size(kTileCosts)); ++tile) {
    if (!exists(weight, static_cast<ManyTokensTile>(tile))) continue;
    const double us = estimated_us(kTileCosts[tile], weight, tokens, multiprocessors);
    if (us < least) least = us, fastest = tile;
  }
  return {static_cast<ManyTokensTile>(fastest), 1};
}

std::vector<ManyTokensPlan> many_tokens_plans(const WeightView& weight, int tokens, bool may_share) {
  std::vector<ManyTokensPlan> plans{expected_many_tokens_plan(weight, tokens)};
  for (int tile = 0; tile < static_cast<int>(std::size(kTileCosts)); ++tile) {
    const auto named = static_cast<ManyTokensTile>(tile);
    if (!exists(weight, named)) continue;
    const Tiles of = tiles_of(kTileCosts[tile], weight, tokens);
    for (const int parts : kPartsTried) {
      const bool is_whole = divide_tiles(of.count, of.pairs, of.places, parts).clusters == 0;
      if (is_whole != (parts == 1) || (!is_whole && !(may_share && kTileCosts[tile].may_be_shared))) continue;
      if (named == plans[0].tile && parts == plans[0].parts) continue;
      plans.push_back({named, parts});
    }
  }
  return plans;
}

ManyTokensWorkspace many_tokens_workspace(const WeightView& weight, int tokens, ManyTokensPlan plan) {
  const TileCost& tile = kTileCosts[static_cast<int>(exists(weight, plan.tile) ? plan.tile : ManyTokensTile::kMedium)];
  const Tiles of = tiles_of(tile, weight, tokens);
  const TileParts parts = divide_tiles(of.count, of.pairs, of.places, tile.may_be_shared ? plan.parts : 1);
  if (parts.clusters == 0) return {0, 0};
  return {tile.partial_sums(parts), tile.counters(of.count)};
}

}  // namespace usmlite::cuda
