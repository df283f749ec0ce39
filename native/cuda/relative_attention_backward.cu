#include "cuda/relative_attention_backward.hpp"

#include "cuda/attention_backward.hpp"
#include "cuda/attention_tiles.cuh"
#include "cuda/launch.hpp"
#include "cuda/pair_products.cuh"
#include "cuda/position_window.cuh"
#include "cuda/shared_heads.hpp"
#include "cuda/sum_parts.hpp"

namespace usmlite::cuda {
namespace {

using namespace attention_tiles;

// With p the probabilities, e = gradient v^T, and d = origin - i + j the row of the position that query i has for key j:
//   value gradient = p^T gradient;  score gradient s = p (e - mean) with mean = gradient . out of the query's row
//   query gradient_i = scale (sum_j s_ij k_j + sum_j s_ij position_d), whose terms summed over queries are the gradients of u and of v
//   key gradient_j = scale sum_i s_ij (q_i + u);  position gradient_d = scale sum_i s_ij (q_i + v)
// Where heads share keys, gradients of keys and values are made for each head, and added up at the end.
// What is kept of pairs is a row for each query: of the keys from the first on that its tile of queries sees.
// Shared memory holds one to three blocks: kernels that are told so need not save registers for more.

// ---- q + u and q + v ----

struct ShiftArguments {
  const uint16_t *query, *content_bias, *position_bias;
  uint16_t *content, *shifted;
  int64_t stride, rows;
  int pairs;  // of a row
};

__global__ void __launch_bounds__(kThreads) shift_queries_kernel(const ShiftArguments a) {
  ptx::take_turn();
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, row = index / a.pairs;
  if (row >= a.rows) return;
  const int column = 2 * static_cast<int>(index % a.pairs);
  const auto pair = [column](const uint16_t* from) { return ptx::floats2<BFloat16>(*reinterpret_cast<const uint32_t*>(from + column)); };
  const float2 q = pair(a.query + row * a.stride), u = pair(a.content_bias), v = pair(a.position_bias);
  *reinterpret_cast<uint32_t*>(a.content + row * a.stride + column) = ptx::round2<BFloat16>(q.x + u.x, q.y + u.y);
  *reinterpret_cast<uint32_t*>(a.shifted + row * a.stride + column) = ptx::round2<BFloat16>(q.x + v.x, q.y + v.y);
}

// ---- probabilities, gradients of scores and of queries ----

struct ScoreArguments {
  const uint16_t *content, *shifted, *key, *value, *positions, *gradient;
  uint16_t *gradient_query, *probabilities, *score_gradients;  // the latter two (heads * frames, pair_stride)
  const float *log_sum, *mean;                                 // (heads, frames)
  const int32_t* offsets;
  int64_t stride, key_stride, value_stride, position_stride, pair_stride, statistics_stride, frames;
  int head_dim, heads_per_key;
  PositionWindow window;
  float scale;
};

template <int kD, class Tiles> struct ScoreTiles {
  static constexpr int kStages = Tiles::kStages, kDistanceStride = Tiles::kPositionsPerWarp + 8;  // 16-bit floats
  uint16_t key[kStages][Tiles::kKeys * kRow<kD>], value[kStages][Tiles::kKeys * kRow<kD>], positions[kStages][Tiles::kPositions * kRow<kD>];
  uint16_t content[kQueries * kRow<kD>], shifted[kQueries * kRow<kD>], gradient[kQueries * kRow<kD>];
  float skewed[kWarps][16 * Tiles::kSkewedStride];
  uint16_t by_distance[kWarps][16 * kDistanceStride];  // gradients of scores, by row of the positions
};

/// sums (16, kD) += a . rows for a (16, 16 kSteps), `stride` apart, and rows (16 kSteps, kD), both in shared memory.
template <int kD, int kSteps>
__device__ __forceinline__ void accumulate_rows(float (&sums)[kD / 8][4], const uint16_t* a, int stride, const uint16_t* rows, int lane) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    uint32_t left[4];
    ptx::load_matrix_x4(left, a + (lane % 16) * stride + 16 * step + 8 * (lane / 16));
    multiply_step<BFloat16, kD>(sums, left, rows + 16 * step * kRow<kD>, lane);
  }
}

template <int kD, class Tiles> __global__ void __launch_bounds__(kThreads, 1) score_gradients_kernel(const ScoreArguments a) {
  if constexpr (Tiles::kStages == 1 && !USMLITE_SMALL_BLOCKS) return;
  ptx::take_turn();
  const int begin = a.offsets[blockIdx.z], end = a.offsets[blockIdx.z + 1], length = end - begin;
  const int first = static_cast<int>(blockIdx.x) * kQueries;  // frame of the sequence
  if (first >= length) return;
  constexpr int kKeys = Tiles::kKeys, kDistanceStride = ScoreTiles<kD, Tiles>::kDistanceStride;
  auto& tiles = *reinterpret_cast<ScoreTiles<kD, Tiles>*>(shared_memory());
  const int head = static_cast<int>(blockIdx.y), column = head * a.head_dim, key_column = head / a.heads_per_key * a.head_dim;
  const int lane = ptx::lane_id(), warp = ptx::warp_id(), g = lane / 4, t = lane % 4;
  const int first_key = a.window.first_key(first), keys_end = a.window.keys_end(first, length);
  const auto copy_tile = [&](int from, int stage) {
    copy_rows<kD>(tiles.key[stage], kKeys, a.key + key_column, a.key_stride, begin + from, begin, end, a.head_dim);
    copy_rows<kD>(tiles.value[stage], kKeys, a.value + key_column, a.value_stride, begin + from, begin, end, a.head_dim);
    copy_rows<kD>(tiles.positions[stage], Tiles::kPositions, a.positions + column, a.position_stride, a.window.first_row(first, from), 0,
                  a.window.rows, a.head_dim);
    ptx::copy_async_commit();
  };
  copy_rows<kD>(tiles.content, kQueries, a.content + column, a.stride, begin + first, begin, end, a.head_dim);
  copy_rows<kD>(tiles.shifted, kQueries, a.shifted + column, a.stride, begin + first, begin, end, a.head_dim);
  copy_rows<kD>(tiles.gradient, kQueries, a.gradient + column, a.stride, begin + first, begin, end, a.head_dim);
  copy_tile(first_key, 0);
  uint16_t* by_distance = tiles.by_distance[warp];
  for (int i = lane; i < 16 * kDistanceStride / 2; i += 32) reinterpret_cast<uint32_t*>(by_distance)[i] = 0;  // no key is that far away

  const int row = begin + first + 16 * warp;  // of the batch: the warp's first
  float log_sum[2] = {0.0f, 0.0f}, mean[2] = {0.0f, 0.0f};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t frame = row + g + 8 * half, at = head * a.statistics_stride + frame;
    if (frame < end) log_sum[half] = a.log_sum[at] * kLog2E, mean[half] = a.mean[at];
  }
  const float scale = a.scale * kLog2E;
  float sums[kD / 8][4] = {};
  for (int from = first_key, stage = 0; from < keys_end; from += kKeys, stage ^= Tiles::kStages - 1) {
    if (Tiles::kStages == 1 && from > first_key) {
      ptx::block_sync();  // nobody uses the tile any more
      copy_tile(from, 0);
    }
    ptx::copy_async_wait<0>();
    ptx::block_sync();  // the tile is there, and nobody uses the other one any more
    if (Tiles::kStages == 2 && from + kKeys < keys_end) copy_tile(from + kKeys, stage ^ 1);
    const uint16_t* positions = tiles.positions[stage] + 16 * (kWarps - 1 - warp) * kRow<kD>;
    float scores[kKeys / 8][4], gradients[kKeys / 8][4];
    {
      float products[Tiles::kPositionsPerWarp / 8][4];
      multiply<BFloat16, kD, Tiles::kPositionsPerWarp / 8>(products, tiles.shifted + 16 * warp * kRow<kD>, positions, lane);
      multiply<BFloat16, kD, kKeys / 8>(scores, tiles.content + 16 * warp * kRow<kD>, tiles.key[stage], lane);
      add_by_distance<Tiles>(scores, products, tiles.skewed[warp], lane);
    }
    multiply<BFloat16, kD, kKeys / 8>(gradients, tiles.gradient + 16 * warp * kRow<kD>, tiles.value[stage], lane);
#pragma unroll
    for (int tile = 0; tile < kKeys / 8; ++tile) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int key = 8 * tile + 2 * t;  // of the tile: the first of two
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& score = scores[tile][2 * half + i];
          const bool is_seen = from + key + i < length && a.window.sees(first + 16 * warp + g + 8 * half, from + key + i);
          score = is_seen ? ptx::exponential_base_2(score * scale - log_sum[half]) : 0.0f;
          gradients[tile][2 * half + i] = score * (gradients[tile][2 * half + i] - mean[half]);
        }
        const int64_t frame = row + g + 8 * half;
        const uint32_t rounded = ptx::round2<BFloat16>(gradients[tile][2 * half], gradients[tile][2 * half + 1]);
        const int kept = from - first_key + key;
        if (frame < end && kept < a.pair_stride) {
          const int64_t at = (head * a.frames + frame) * a.pair_stride + kept;
          *reinterpret_cast<uint32_t*>(a.probabilities + at) = ptx::round2<BFloat16>(scores[tile][2 * half], scores[tile][2 * half + 1]);
          *reinterpret_cast<uint32_t*>(a.score_gradients + at) = rounded;
        }
        uint16_t* place = by_distance + (g + 8 * half) * kDistanceStride + 15 - (g + 8 * half) + key;
        place[0] = static_cast<uint16_t>(rounded), place[1] = static_cast<uint16_t>(rounded >> 16);
      }
    }
    ptx::warp_sync();
    accumulate_rows<kD, Tiles::kPositionsPerWarp / 16>(sums, by_distance, kDistanceStride, positions, lane);
    accumulate<BFloat16, kD, kKeys>(sums, gradients, tiles.key[stage], lane);
    ptx::warp_sync();
  }

  store_rows<BFloat16, kD>(a.gradient_query + column, a.stride, sums, a.scale, row, end, a.head_dim, lane);
}

unsigned tiles_of(int64_t rows) { return static_cast<unsigned>((rows + kQueries - 1) / kQueries); }

LaunchShape shape_of(unsigned x, int64_t y, int64_t z, size_t shared_bytes) {
  return {x, static_cast<unsigned>(y), static_cast<unsigned>(z), kThreads, shared_bytes, 1, kernels_take_turns()};
}

template <int kD> void launch_score_gradients(LaunchShape shape, StreamHandle stream, const ScoreArguments& arguments) {
  using Roomy = ScoreTiles<kD, PositionTiles>;
  using SmallKeyTiles = KeyTiles<16, 1>;  // wide heads where a block has little shared memory
  using Small = ScoreTiles<kD, SmallKeyTiles>;
  static_assert(kFitsEverywhere<Small>);
  if constexpr (!kFitsEverywhere<Roomy>) {
    if (!fits_here<Roomy>()) {
      shape.shared_bytes = sizeof(Small);
      return launch(score_gradients_kernel<kD, SmallKeyTiles>, shape, stream, arguments);
    }
  }
  shape.shared_bytes = sizeof(Roomy);
  launch(score_gradients_kernel<kD, PositionTiles>, shape, stream, arguments);
}

template <int kD>
void relative_attention_backward_of(const RelativeAttentionBackwardArguments& a, const PackedSequences& sequences, const Stream& stream) {
  const auto bits = [&](const DeviceMatrix* tensor) { return tensor->use_on<uint16_t>(stream); };
  const int64_t frames = a.query->rows(), width = a.query->columns(), stride = a.query->row_stride(), heads = a.heads;
  const int64_t position_rows = a.positions->rows();
  const int head_dim = static_cast<int>(width / heads);
  const ScratchMatrix content(DeviceType::kBFloat16, frames, width, stream), shifted(DeviceType::kBFloat16, frames, width, stream);
  const int64_t pairs = frames * (width / 2);
  launch(shift_queries_kernel, shape_of(static_cast<unsigned>((pairs + kThreads - 1) / kThreads), 1, 1, 0), stream.handle(),
         ShiftArguments{bits(a.query), bits(a.content_bias), bits(a.position_bias), bits(&content), bits(&shifted), stride, frames,
                        static_cast<int>(width / 2)});
  const ScratchMatrix mean = attention_means(*a.out, *a.gradient, a.heads, stream);

  const PositionWindow window{a.origin, static_cast<int>(position_rows), a.window.left, a.window.right};
  const int heads_per_key = a.heads / a.key_heads;
  // Rows begin at multiples of 16 bytes, however many keys are seen.
  const int64_t kept = window.most_keys(sequences.longest);
  const ScratchMatrix probabilities(DeviceType::kBFloat16, heads * frames, kept, stream),
      score_gradients(DeviceType::kBFloat16, heads * frames, kept, stream);
  const unsigned tiles = tiles_of(sequences.longest);
  launch_score_gradients<kD>(
      shape_of(tiles, heads, sequences.count, 0), stream.handle(),
      ScoreArguments{bits(&content), bits(&shifted), bits(a.key), bits(a.value), bits(a.positions), bits(a.gradient), bits(a.gradient_query),
                     bits(&probabilities), bits(&score_gradients), a.log_sum->use_on<float>(stream), mean.use_on<float>(stream),
                     sequences.offsets, stride, a.key->row_stride(), a.value->row_stride(), a.positions->row_stride(), score_gradients.row_stride(),
                     mean.row_stride(), frames, head_dim, heads_per_key, window, a.scale});

  // Of every head.
  const HeadGradients of_key(*a.gradient_key, width, stream), of_value(*a.gradient_value, width, stream);
  PairProductArguments product{.pairs = bits(&probabilities),
                               .x = bits(a.gradient),
                               .y = bits(&of_value.each()),
                               .offsets = sequences.offsets,
                               .stride = stride,
                               .pair_stride = score_gradients.row_stride(),
                               .frames = frames,
                               .head_dim = head_dim,
                               .heads = a.heads,
                               .heads_per_row = heads_per_key,
                               .sequences = sequences.count,
                               .window = window,
                               .scale = 1.0f};
  const LaunchShape of_keys = shape_of(tiles, heads, sequences.count, sizeof(PairTiles<kD>));
  launch(pair_product_kernel<kD, PairRows::kKeys>, of_keys, stream.handle(), product);

  // A launch, and the sum of what its blocks leave for the gradient of a bias.
  const auto with_bias = [&](auto kernel, const LaunchShape& shape, const DeviceMatrix* rows, const DeviceMatrix* bias_gradient) {
    const ScratchMatrix bias_sums(DeviceType::kFloat32, static_cast<int64_t>(shape.grid_x) * shape.grid_z, width, stream);
    product.rows = bits(rows), product.row_stride = rows->row_stride();
    product.bias_sums = bias_sums.use_on<float>(stream), product.bias_stride = bias_sums.row_stride();
    launch(kernel, shape, stream.handle(), product);
    sum_parts(bias_sums, PartSums::vector(0, width, bias_gradient->use_on<float>(stream)), stream);
  };
  product.pairs = bits(&score_gradients), product.x = bits(&content), product.y = bits(&of_key.each()), product.scale = a.scale;
  with_bias(pair_product_kernel<kD, PairRows::kKeys>, of_keys, a.key, a.gradient_content_bias);

  const int64_t parts = parts_of(sequences.count, 1, tiles_of(position_rows) * heads);
  const ScratchMatrix partial(DeviceType::kFloat32, parts, position_rows * width, stream);
  product.x = bits(&shifted), product.y = nullptr, product.heads_per_row = 1, product.partial = partial.use_on<float>(stream),
  product.partial_stride = partial.row_stride();
  with_bias(pair_product_kernel<kD, PairRows::kPositions>, shape_of(tiles_of(position_rows), heads, parts, sizeof(PairTiles<kD>)), a.positions,
            a.gradient_position_bias);
  sum_parts(partial, PartSums::vector(0, position_rows * width, a.gradient_positions->use_on<float>(stream)), stream);
  of_key.add_up(head_dim, stream), of_value.add_up(head_dim, stream);
}

}  // namespace

void relative_attention_backward(const RelativeAttentionBackwardArguments& a, const PackedSequences& sequences, const Stream& stream) {
  if (a.query->rows() == 0) return;
  if (a.query->columns() / a.heads <= 64) relative_attention_backward_of<64>(a, sequences, stream);
  else relative_attention_backward_of<kLargestTrainedHeadDimension>(a, sequences, stream);
}

}  // namespace usmlite::cuda
