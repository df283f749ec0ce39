// Sums over queries of their rows times what is kept of their pairs with keys: gradients of values, keys and positions in attention with
// relative positions. What is kept of a query is a row: of the keys from the first on that its tile of queries sees.
#pragma once

#include "cuda/attention_tiles.cuh"
#include "cuda/position_window.cuh"

namespace usmlite::cuda {

namespace attention_tiles {

/// What a row of the result stands for.
enum class PairRows : uint8_t { kKeys, kPositions };

inline constexpr int kQueriesPerTile = 32, kPairRow = kQueries + 8;  // 64 rows of results

struct PairProductArguments {
  const uint16_t *pairs, *x;  // (heads * frames, pair_stride), (frames, width)
  uint16_t* y;                // of keys, (frames, width)
  float* partial;             // of positions, (parts, position rows * width)
  const uint16_t* rows;       // keys or positions; their sum, weighted by those of their pairs, is the gradient of u or v
  float* bias_sums;           // (blocks, width): the share of it that each block has; or null
  const int32_t* offsets;
  int64_t stride, pair_stride, partial_stride, row_stride, bias_stride, frames;
  int head_dim, heads, heads_per_row, sequences;  // heads that share rows: 1 for positions
  PositionWindow window;
  float scale;
};

template <int kD> struct PairTiles {
  uint16_t pairs[2][kQueriesPerTile * kPairRow], x[2][kQueriesPerTile * kRow<kD>];
  float pair_sums[kQueries];
};

template <int kD, PairRows kRows> __global__ void __launch_bounds__(kThreads, 3) pair_product_kernel(const PairProductArguments a) {
  ptx::take_turn();
  auto& tiles = *reinterpret_cast<PairTiles<kD>*>(shared_memory());
  const int first = static_cast<int>(blockIdx.x) * kQueries;  // key of the sequence, or position
  const int head = static_cast<int>(blockIdx.y), column = head * a.head_dim, row_column = head / a.heads_per_row * a.head_dim;
  const int lane = ptx::lane_id(), warp = ptx::warp_id(), thread = static_cast<int>(threadIdx.x);
  const int step = kRows == PairRows::kKeys ? a.sequences : static_cast<int>(gridDim.z);
  const uint32_t one = ptx::round2<BFloat16>(1.0f, 1.0f), ones[2] = {one, one};
  float sums[kD / 8][4] = {}, pair_sums[4] = {};
  int begin = 0, end = 0;
  for (int sequence = static_cast<int>(blockIdx.z); sequence < a.sequences; sequence += step) {
    begin = a.offsets[sequence], end = a.offsets[sequence + 1];
    const int length = end - begin;
    // Query i sees position n for key n - origin + i.
    const int key_of_first = first - a.window.origin;
    constexpr bool kOfKeys = kRows == PairRows::kKeys;
    const int from_query =
        kOfKeys ? max(0, first - a.window.right) / kQueriesPerTile * kQueriesPerTile : max(0, -key_of_first - (kQueries - 1));
    const int to_query =
        kOfKeys ? first < length ? min(length, first + kQueries + a.window.left) : 0 : min(length, length - key_of_first);
    const auto copy_tile = [&](int from, int stage) {
      copy_rows<kD>(tiles.x[stage], kQueriesPerTile, a.x + column, a.stride, begin + from, begin, end, a.head_dim);
      const uint16_t* pairs = a.pairs + (head * a.frames + begin + from) * a.pair_stride;
      uint16_t* to = tiles.pairs[stage];
      if constexpr (kRows == PairRows::kKeys) {
        for (int i = thread; i < kQueriesPerTile * (kQueries / 8); i += kThreads) {
          const int query = i / (kQueries / 8), key = i % (kQueries / 8) * 8;
          const int tile_of_query = (from + query) / kQueries * kQueries, kept = first + key - a.window.first_key(tile_of_query);
          const bool valid = from + query < length && kept >= 0 && first + key < a.window.keys_end(tile_of_query, length);
          ptx::copy_async_16(to + query * kPairRow + key, valid ? pairs + query * a.pair_stride + kept : a.pairs, valid);
        }
      } else {
        for (int i = thread; i < kQueriesPerTile * kQueries; i += kThreads) {
          const int query = i / kQueries, key = key_of_first + i % kQueries + from + query;
          const bool valid = from + query < length && key >= 0 && key < length && first + i % kQueries < a.window.rows;
          const int first_key = a.window.first_key((from + query) / kQueries * kQueries);
          to[query * kPairRow + i % kQueries] = valid ? pairs[query * a.pair_stride + key - first_key] : static_cast<uint16_t>(0);
        }
      }
      ptx::copy_async_commit();
    };
    if (from_query < to_query) copy_tile(from_query, 0);
    for (int from = from_query, stage = 0; from < to_query; from += kQueriesPerTile, stage ^= 1) {
      ptx::copy_async_wait<0>();
      ptx::block_sync();  // the tile is there, and nobody uses the other one any more
      if (from + kQueriesPerTile < to_query) copy_tile(from + kQueriesPerTile, stage ^ 1);
#pragma unroll
      for (int part = 0; part < kQueriesPerTile / 16; ++part) {
        uint32_t left[4];  // transposed: pairs lie with queries in rows
        ptx::load_matrix_transposed_x4(left,
                                       tiles.pairs[stage] + (16 * part + lane % 8 + 8 * (lane / 16)) * kPairRow + 16 * warp + 8 * (lane / 8 % 2));
        ptx::mma<BFloat16>(pair_sums, left, ones);
        multiply_step<BFloat16, kD>(sums, left, tiles.x[stage] + 16 * part * kRow<kD>, lane);
      }
    }
    if (kRows == PairRows::kPositions) ptx::block_sync();  // before the next sequence takes the tiles
  }
  if constexpr (kRows == PairRows::kKeys) {
    store_rows<BFloat16, kD>(a.y + column, a.stride, sums, a.scale, begin + first + 16 * warp, end, a.head_dim, lane);
  } else {
    float* partial = a.partial + blockIdx.z * a.partial_stride + column;
#pragma unroll
    for (int tile = 0; tile < kD / 8; ++tile) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int position = first + 16 * warp + lane / 4 + 8 * half, at = 8 * tile + 2 * (lane % 4);
        if (position < a.window.rows && at < a.head_dim) {
          *reinterpret_cast<float2*>(partial + static_cast<int64_t>(position) * a.heads * a.head_dim + at) =
              float2{a.scale * sums[tile][2 * half], a.scale * sums[tile][2 * half + 1]};
        }
      }
    }
  }
  if (!a.bias_sums) return;
  if (lane % 4 == 0) tiles.pair_sums[16 * warp + lane / 4] = pair_sums[0], tiles.pair_sums[16 * warp + lane / 4 + 8] = pair_sums[2];
  ptx::block_sync();
  const int64_t first_row = kRows == PairRows::kKeys ? begin + first : first, rows_end = kRows == PairRows::kKeys ? end : a.window.rows;
  for (int i = thread; i < a.head_dim; i += kThreads) {
    float sum = 0.0f;
    for (int r = 0; r < kQueries && first_row + r < rows_end; ++r)
      sum += tiles.pair_sums[r] * ptx::to_float<BFloat16>(a.rows[(first_row + r) * a.row_stride + row_column + i]);
    a.bias_sums[(blockIdx.z * static_cast<int64_t>(gridDim.x) + blockIdx.x) * a.bias_stride + column + i] = a.scale * sum;
  }
}

}  // namespace attention_tiles

}  // namespace usmlite::cuda
