#include "cuda/attention_backward.hpp"

#include "cuda/attention_tiles.cuh"
#include "cuda/launch.hpp"
#include "cuda/shared_heads.hpp"

namespace usmlite::cuda {
namespace {

using namespace attention_tiles;

// With m the dropout multipliers, p the probabilities and e = gradient v^T:
//   value gradient = (p m)^T gradient;  score gradient s = p (m e - mean) with mean = gradient . out of the query's row;
//   query gradient = scale s k;  key gradient = scale s^T q
// A block of kernel kKeys has keys in rows and goes through queries, one of kernel kQueries the other way round; scores and e
// are made transposed in the former, so that both are the same products. Where heads share keys, gradients of keys and values are made for
// each head, and added up at the end. With `causal` both leave out tiles that see nothing of each other.
enum class Rows : uint8_t { kQueries, kKeys };

/// Rows of the other kind in a tile.
template <int kD> inline constexpr int kColumnsOf = kD <= 64 ? 64 : 32;

/// Blocks on a multiprocessor, as registers have it. Told nothing, the compiler makes room for another one by spilling.
template <int kD, Rows kRows> inline constexpr int kBlocksOf = kD <= 64 && kRows == Rows::kQueries ? 3 : 2;

struct KernelArguments {
  const uint16_t *query, *key, *value, *gradient;
  uint16_t *gradient_query, *gradient_key, *gradient_value;
  const float *log_sum, *mean;  // (heads, queries)
  const int32_t *query_offsets, *key_offsets;
  int64_t stride, key_stride, statistics_stride;
  int head_dim, heads, heads_per_key;
  float scale;
  bool causal;
  Dropout dropout;
};

template <int kD> struct SharedTiles {
  uint16_t first[2][kColumnsOf<kD> * kRow<kD>], second[2][kColumnsOf<kD> * kRow<kD>];  // keys, values or queries, gradients
  uint16_t rows_first[kQueries * kRow<kD>], rows_second[kQueries * kRow<kD>];
  float log_sum[2][kColumnsOf<kD>], mean[2][kColumnsOf<kD>];  // of queries in columns
};

template <int kD, Rows kRows> __global__ void __launch_bounds__(kThreads, kBlocksOf<kD, kRows>) attention_backward_kernel(const KernelArguments a) {
  ptx::take_turn();
  constexpr bool kOfKeys = kRows == Rows::kKeys;
  constexpr int kColumns = kColumnsOf<kD>, kTiles = kColumns / 8;
  const int queries_begin = a.query_offsets[blockIdx.z], queries = a.query_offsets[blockIdx.z + 1] - queries_begin;
  const int keys_begin = a.key_offsets[blockIdx.z], keys = a.key_offsets[blockIdx.z + 1] - keys_begin;
  const int begin = kOfKeys ? keys_begin : queries_begin, length = kOfKeys ? keys : queries, end = begin + length;  // of rows
  const int columns_begin = kOfKeys ? queries_begin : keys_begin, columns = kOfKeys ? queries : keys;
  const int first = static_cast<int>(blockIdx.x) * kQueries;  // row, counted from the sequence's beginning
  if (first >= length) return;
  const int ahead = keys - queries;  // with `causal` query i sees keys up to i + ahead
  const int from_first = kOfKeys && a.causal ? max(0, first - ahead) / kColumns * kColumns : 0;
  const int from_end = !kOfKeys && a.causal ? min(columns, first + kQueries + ahead) : columns;
  auto& tiles = *reinterpret_cast<SharedTiles<kD>*>(shared_memory());
  const int head = static_cast<int>(blockIdx.y), head_column = head * a.head_dim, key_column = head / a.heads_per_key * a.head_dim;
  const int lane = ptx::lane_id(), warp = ptx::warp_id(), g = lane / 4, t = lane % 4, thread = static_cast<int>(threadIdx.x);
  const float* log_sums = a.log_sum + head * a.statistics_stride;
  const float* means = a.mean + head * a.statistics_stride;

  const int row_column = kOfKeys ? key_column : head_column, column_column = kOfKeys ? head_column : key_column;
  const uint16_t* rows_first = (kOfKeys ? a.key : a.query) + row_column;
  const uint16_t* rows_second = (kOfKeys ? a.value : a.gradient) + row_column;
  const uint16_t* columns_first = (kOfKeys ? a.query : a.key) + column_column;
  const uint16_t* columns_second = (kOfKeys ? a.gradient : a.value) + column_column;
  const int64_t row_stride = kOfKeys ? a.key_stride : a.stride, column_stride = kOfKeys ? a.stride : a.key_stride;
  const auto copy_tile = [&](int from, int stage) {
    const int columns_end = columns_begin + columns;
    copy_rows<kD>(tiles.first[stage], kColumns, columns_first, column_stride, columns_begin + from, columns_begin, columns_end, a.head_dim);
    copy_rows<kD>(tiles.second[stage], kColumns, columns_second, column_stride, columns_begin + from, columns_begin, columns_end, a.head_dim);
    ptx::copy_async_commit();
    if (kOfKeys && thread < kColumns) {  // gradients of queries beyond the end are zero, and so is all that comes of them
      const bool valid = from + thread < columns;
      tiles.log_sum[stage][thread] = valid ? log_sums[columns_begin + from + thread] * kLog2E : 0.0f;
      tiles.mean[stage][thread] = valid ? means[columns_begin + from + thread] : 0.0f;
    }
  };
  if (from_first < from_end) {  // keys that no query sees have gradients too: zero
    copy_rows<kD>(tiles.rows_first, kQueries, rows_first, row_stride, begin + first, begin, end, a.head_dim);
    copy_rows<kD>(tiles.rows_second, kQueries, rows_second, row_stride, begin + first, begin, end, a.head_dim);
    copy_tile(from_first, 0);
  }

  const int row = begin + first + 16 * warp;  // of the batch: the warp's first
  float row_log_sum[2] = {0.0f, 0.0f}, row_mean[2] = {0.0f, 0.0f};
  if constexpr (!kOfKeys) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int frame = row + g + 8 * half;
      if (frame < end) row_log_sum[half] = log_sums[frame] * kLog2E, row_mean[half] = means[frame];
    }
  }
  const float scale = a.scale * kLog2E;
  float sums[kD / 8][4] = {}, value_sums[kOfKeys ? kD / 8 : 1][4] = {};
  for (int from = from_first, stage = 0; from < from_end; from += kColumns, stage ^= 1) {
    ptx::copy_async_wait<0>();
    ptx::block_sync();  // the tile is there, and nobody uses the other one any more
    if (from + kColumns < from_end) copy_tile(from + kColumns, stage ^ 1);
    float scores[kTiles][4], gradients[kTiles][4];
    multiply<BFloat16, kD, kTiles>(scores, tiles.rows_first + 16 * warp * kRow<kD>, tiles.first[stage], lane);
    multiply<BFloat16, kD, kTiles>(gradients, tiles.rows_second + 16 * warp * kRow<kD>, tiles.second[stage], lane);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = 8 * tile + 2 * t + i % 2, own = first + 16 * warp + g + 8 * (i / 2);
        const float log_sum = kOfKeys ? tiles.log_sum[stage][column] : row_log_sum[i / 2];
        const bool is_hidden = a.causal && (kOfKeys ? own > from + column + ahead : from + column > own + ahead);
        const bool is_key = (kOfKeys || from + column < columns) && !is_hidden;
        scores[tile][i] = is_key ? ptx::exponential_base_2(scores[tile][i] * scale - log_sum) : 0.0f;
      }
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = from + 8 * tile + 2 * t + i % 2, own = first + 16 * warp + g + 8 * (i / 2);
        const int query = kOfKeys ? column : own, key = kOfKeys ? own : column;
        const float mean = kOfKeys ? tiles.mean[stage][column - from] : row_mean[i / 2];
        float multiplier = 1.0f;
        if (a.dropout.threshold) {
          multiplier = dropout_multiplier(a.dropout, dropout_index(queries_begin + query, a.heads, head) + static_cast<uint64_t>(key));
        }
        gradients[tile][i] = scores[tile][i] * (multiplier * gradients[tile][i] - mean);
        scores[tile][i] *= multiplier;
      }
    }
    if constexpr (kOfKeys) accumulate<BFloat16, kD, kColumns>(value_sums, scores, tiles.second[stage], lane);
    accumulate<BFloat16, kD, kColumns>(sums, gradients, tiles.first[stage], lane);
  }

  if constexpr (kOfKeys) {
    store_rows<BFloat16, kD>(a.gradient_key + head_column, a.stride, sums, a.scale, row, end, a.head_dim, lane);
    store_rows<BFloat16, kD>(a.gradient_value + head_column, a.stride, value_sums, 1.0f, row, end, a.head_dim, lane);
  } else {
    store_rows<BFloat16, kD>(a.gradient_query + head_column, a.stride, sums, a.scale, row, end, a.head_dim, lane);
  }
}

/// mean (heads, frames) = gradient . out of every head of every frame: a warp takes one.
__global__ void __launch_bounds__(kThreads) attention_means_kernel(const uint16_t* out, const uint16_t* gradient, int64_t stride, int64_t frames,
                                                                   int heads, int head_dim, float* mean, int64_t mean_stride) {
  ptx::take_turn();
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + ptx::warp_id(), frame = index / heads, head = index % heads;
  if (frame >= frames) return;
  const int64_t at = frame * stride + head * head_dim;
  float sum = 0.0f;
  for (int column = 2 * ptx::lane_id(); column < head_dim; column += 64) {
    const float2 o = ptx::floats2<BFloat16>(*reinterpret_cast<const uint32_t*>(out + at + column));
    const float2 d = ptx::floats2<BFloat16>(*reinterpret_cast<const uint32_t*>(gradient + at + column));
    sum += o.x * d.x + o.y * d.y;
  }
  for (int distance = 16; distance > 0; distance /= 2) sum += ptx::shuffle_xor(sum, distance);
  if (ptx::lane_id() == 0) mean[head * mean_stride + frame] = sum;
}

/// Frames of the longest sequences.
struct Longest {
  int queries, keys;
};

template <int kD> void launch_backward(const KernelArguments& arguments, const Longest& longest, LaunchShape shape, StreamHandle stream) {
  const auto blocks = [](int frames) { return static_cast<unsigned>((frames + kQueries - 1) / kQueries); };
  shape.shared_bytes = sizeof(SharedTiles<kD>);
  shape.grid_x = blocks(longest.keys);
  if (shape.grid_x > 0) launch(attention_backward_kernel<kD, Rows::kKeys>, shape, stream, arguments);
  shape.grid_x = blocks(longest.queries);
  if (shape.grid_x > 0) launch(attention_backward_kernel<kD, Rows::kQueries>, shape, stream, arguments);
}

}  // namespace

ScratchMatrix attention_means(const DeviceMatrix& out, const DeviceMatrix& gradient, int heads, const Stream& stream) {
  const int64_t frames = out.rows();
  ScratchMatrix mean(DeviceType::kFloat32, heads, frames, stream);
  if (frames == 0) return mean;
  launch(attention_means_kernel,
         LaunchShape{static_cast<unsigned>((frames * heads + kWarps - 1) / kWarps), 1, 1, kThreads, 0, 1, kernels_take_turns()}, stream.handle(),
         out.use_on<uint16_t>(stream), gradient.use_on<uint16_t>(stream), out.row_stride(), frames, heads,
         static_cast<int>(out.columns()) / heads, mean.use_on<float>(stream), mean.row_stride());
  return mean;
}

void attention_backward(const AttentionBackwardArguments& a, const PackedSequences& queries, const Stream& stream) {
  const PackedSequences& keys = a.keys ? *a.keys : queries;
  const auto bits = [&](const DeviceMatrix* tensor) { return tensor->use_on<uint16_t>(stream); };
  const int64_t stride = a.query->row_stride();
  const int head_dim = static_cast<int>(a.query->columns()) / a.heads;
  const ScratchMatrix mean = attention_means(*a.out, *a.gradient, a.heads, stream);
  const HeadGradients of_key(*a.gradient_key, a.query->columns(), stream), of_value(*a.gradient_value, a.query->columns(), stream);
  const KernelArguments arguments{bits(a.query), bits(a.key), bits(a.value), bits(a.gradient), bits(a.gradient_query), bits(&of_key.each()),
                                  bits(&of_value.each()), a.log_sum->use_on<float>(stream), mean.use_on<float>(stream), queries.offsets, keys.offsets,
                                  stride, a.key->row_stride(), mean.row_stride(), head_dim, a.heads, a.heads / a.key_heads, a.scale, a.causal, a.dropout};
  const LaunchShape shape{0, static_cast<unsigned>(a.heads), static_cast<unsigned>(queries.count), kThreads, 0, 1, kernels_take_turns()};
  const Longest longest{queries.longest, keys.longest};
  if (head_dim <= 64) launch_backward<64>(arguments, longest, shape, stream.handle());
  else launch_backward<kLargestTrainedHeadDimension>(arguments, longest, shape, stream.handle());
  of_key.add_up(head_dim, stream), of_value.add_up(head_dim, stream);
}

}  // namespace usmlite::cuda
