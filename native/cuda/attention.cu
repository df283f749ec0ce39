#include "cuda/attention.hpp"

#include "cuda/attention_tiles.cuh"
#include "cuda/launch.hpp"

namespace usmlite::cuda {
namespace {

using namespace attention_tiles;

// A block makes 64 frames of one head and goes through the keys in tiles, the next of which is copied while one is used. With
// relative positions tiles are smaller: those of p come on top.
template <bool kRelative> inline constexpr int kKeysPerTile = kRelative ? 32 : 64;
constexpr int kPositions = kQueries + kKeysPerTile<true>;  // rows of p that a tile of scores needs, and one more
constexpr int kPositionsPerWarp = 16 + kKeysPerTile<true>;
constexpr int kSkewedStride = kPositionsPerWarp + 4;       // floats; so that rows start in different banks

struct KernelArguments {
  const uint16_t *query, *key, *value, *positions, *content_bias, *position_bias;
  uint16_t* out;
  const int32_t* offsets;
  int64_t query_stride, key_stride, value_stride, position_stride, out_stride;
  int head_dim, longest, heads;
  float scale;
  Dropout dropout;        // of probabilities
  float* log_sum;         // (heads, frames), or null
  int64_t log_sum_stride;
};

template <int kD, int kKeys> struct SharedTiles {
  uint16_t key[2][kKeys * kRow<kD>], value[2][kKeys * kRow<kD>];
  uint16_t query[kQueries * kRow<kD>];
};
template <int kD> struct RelativeTiles {
  uint16_t positions[2][kPositions * kRow<kD>];
  uint16_t shifted_query[kQueries * kRow<kD>];      // q + v
  float skewed[kWarps][16 * kSkewedStride];         // (q + v) . p of a warp's rows
};

/// Adds a vector (head_dim) to the rows of a tile.
template <typename T, int kD>
__device__ __forceinline__ void add_to_rows(uint16_t* to, const uint16_t* from, const uint16_t* bias, int head_dim) {
  for (int i = static_cast<int>(threadIdx.x); i < kQueries * (kD / 2); i += kThreads) {
    const int row = i / (kD / 2), column = i % (kD / 2) * 2;
    const float2 q = ptx::floats2<T>(*reinterpret_cast<const uint32_t*>(from + row * kRow<kD> + column));
    float2 b = {0.0f, 0.0f};
    if (column < head_dim) b = ptx::floats2<T>(*reinterpret_cast<const uint32_t*>(bias + column));
    *reinterpret_cast<uint32_t*>(to + row * kRow<kD> + column) = ptx::round2<T>(q.x + b.x, q.y + b.y);
  }
}

/// Of the four lanes that share rows.
__device__ __forceinline__ float row_maximum(float v) {
  v = fmaxf(v, ptx::shuffle_xor(v, 1));
  return fmaxf(v, ptx::shuffle_xor(v, 2));
}
__device__ __forceinline__ float row_sum(float v) {
  v += ptx::shuffle_xor(v, 1);
  return v + ptx::shuffle_xor(v, 2);
}

/// What a lane keeps of its rows g and g + 8 while it goes through the keys: `sums` of exp(score - maximum) v.
template <int kD> struct RunningSoftmax {
  float sums[kD / 8][4] = {};
  float maximum[2] = {kNever, kNever};
  float total[2] = {0.0f, 0.0f};  // this lane's share

  /// Takes in a tile of scores (in units of log 2) with its values. `indices`: of the rows and the tile's first key in the
  /// dropout stream.
  template <typename T, int kKeys>
  __device__ __forceinline__ void add(float (&scores)[kKeys / 8][4], const uint16_t* values, int lane, const Dropout& dropout,
                                      const uint64_t (&indices)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = maximum[half];
#pragma unroll
      for (int tile = 0; tile < kKeys / 8; ++tile) largest = fmaxf(largest, fmaxf(scores[tile][2 * half], scores[tile][2 * half + 1]));
      largest = row_maximum(largest);
      const float shrink = ptx::exponential_base_2(maximum[half] - largest);
      maximum[half] = largest;
      total[half] *= shrink;
#pragma unroll
      for (int tile = 0; tile < kD / 8; ++tile) sums[tile][2 * half] *= shrink, sums[tile][2 * half + 1] *= shrink;
#pragma unroll
      for (int tile = 0; tile < kKeys / 8; ++tile) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          scores[tile][i] = ptx::exponential_base_2(scores[tile][i] - largest);
          total[half] += scores[tile][i];
        }
      }
    }
    if (dropout.threshold) drop<kKeys>(scores, lane, dropout, indices);
    accumulate<T, kD, kKeys>(sums, scores, values, lane);
  }
};

template <typename T, int kD, bool kRelative> __global__ void __launch_bounds__(kThreads) attention_kernel(const KernelArguments a) {
  ptx::take_turn();
  const int begin = a.offsets[blockIdx.z], end = a.offsets[blockIdx.z + 1], length = end - begin;
  const int first = static_cast<int>(blockIdx.x) * kQueries;  // frame of the sequence
  if (first >= length) return;
  constexpr int kKeys = kKeysPerTile<kRelative>;
  auto& tiles = *reinterpret_cast<SharedTiles<kD, kKeys>*>(shared_memory());
  auto& relative = *reinterpret_cast<RelativeTiles<kD>*>(shared_memory() + sizeof(tiles));
  const int head = static_cast<int>(blockIdx.y) * a.head_dim;  // its first column
  const int lane = ptx::lane_id(), warp = ptx::warp_id(), g = lane / 4, t = lane % 4;

  const auto copy_tile = [&](int keys_from, int stage) {
    copy_rows<kD>(tiles.key[stage], kKeys, a.key + head, a.key_stride, begin + keys_from, begin, end, a.head_dim);
    copy_rows<kD>(tiles.value[stage], kKeys, a.value + head, a.value_stride, begin + keys_from, begin, end, a.head_dim);
    if constexpr (kRelative) {  // row n of the tile: p(longest - 1 - (first + kQueries - 1) + keys_from + n)
      copy_rows<kD>(relative.positions[stage], kPositions, a.positions + head, a.position_stride,
                    a.longest - first - kQueries + keys_from, 0, 2 * a.longest - 1, a.head_dim);
    }
    ptx::copy_async_commit();
  };

  copy_rows<kD>(tiles.query, kQueries, a.query + head, a.query_stride, begin + first, begin, end, a.head_dim);
  copy_tile(0, 0);
  ptx::copy_async_wait<0>();
  ptx::block_sync();
  if constexpr (kRelative) {
    add_to_rows<T, kD>(relative.shifted_query, tiles.query, a.position_bias + head, a.head_dim);
    ptx::block_sync();
    add_to_rows<T, kD>(tiles.query, tiles.query, a.content_bias + head, a.head_dim);
    ptx::block_sync();
  }
  uint32_t query[kD / 16][4];
  load_queries<kD>(query, tiles.query + 16 * warp * kRow<kD>, lane);

  RunningSoftmax<kD> softmax;
  const float scale = a.scale * kLog2E;
  const int first_frame = begin + first + 16 * warp + g;
  const uint64_t index[2] = {dropout_index(first_frame, a.heads, static_cast<int>(blockIdx.y)),
                             dropout_index(first_frame + 8, a.heads, static_cast<int>(blockIdx.y))};
  for (int keys_from = 0, stage = 0; keys_from < length; keys_from += kKeys, stage ^= 1) {
    if (keys_from > 0) {
      ptx::copy_async_wait<0>();
      ptx::block_sync();  // the tile is there, and nobody uses the other one any more
    }
    if (keys_from + kKeys < length) copy_tile(keys_from + kKeys, stage ^ 1);
    float scores[kKeys / 8][4];
    multiply_rows<T, kD, kKeys / 8>(scores, query, tiles.key[stage], lane);
    if constexpr (kRelative) {
      // Row r of the warp needs, for key j, row 15 - r + j of the positions from the warp's first on.
      uint32_t shifted[kD / 16][4];
      load_queries<kD>(shifted, relative.shifted_query + 16 * warp * kRow<kD>, lane);
      float products[kPositionsPerWarp / 8][4];
      multiply_rows<T, kD, kPositionsPerWarp / 8>(products, shifted, relative.positions[stage] + 16 * (kWarps - 1 - warp) * kRow<kD>, lane);
      float* skewed = relative.skewed[warp];
#pragma unroll
      for (int tile = 0; tile < kPositionsPerWarp / 8; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) skewed[(g + 8 * (i / 2)) * kSkewedStride + 8 * tile + 2 * t + i % 2] = products[tile][i];
      }
      ptx::warp_sync();
#pragma unroll
      for (int tile = 0; tile < kKeys / 8; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int row = g + 8 * (i / 2);
          scores[tile][i] += skewed[row * kSkewedStride + 15 - row + 8 * tile + 2 * t + i % 2];
        }
      }
      ptx::warp_sync();
    }
#pragma unroll
    for (int tile = 0; tile < kKeys / 8; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const bool is_key = keys_from + 8 * tile + 2 * t + i % 2 < length;
        scores[tile][i] = is_key ? scores[tile][i] * scale : kNever;
      }
    }
    const uint64_t indices[2] = {index[0] + static_cast<uint64_t>(keys_from), index[1] + static_cast<uint64_t>(keys_from)};
    softmax.template add<T, kKeys>(scores, tiles.value[stage], lane, a.dropout, indices);
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = row_sum(softmax.total[half]), reciprocal = 1.0f / total;
    const int frame = first + 16 * warp + g + 8 * half;
    if (a.log_sum && frame < length && t == 0) {
      a.log_sum[blockIdx.y * a.log_sum_stride + begin + frame] = (softmax.maximum[half] + ptx::logarithm_base_2(total)) / kLog2E;
    }
#pragma unroll
    for (int tile = 0; tile < kD / 8; ++tile) {
      const int column = 8 * tile + 2 * t;
      if (frame < length && column < a.head_dim) {
        *reinterpret_cast<uint32_t*>(a.out + (begin + frame) * a.out_stride + head + column) =
            ptx::round2<T>(softmax.sums[tile][2 * half] * reciprocal, softmax.sums[tile][2 * half + 1] * reciprocal);
      }
    }
  }
}

template <typename T, int kD>
void launch_attention(const KernelArguments& arguments, const LaunchShape& grid, bool relative, StreamHandle stream) {
  LaunchShape shape = grid;
  shape.shared_bytes = relative ? sizeof(SharedTiles<kD, kKeysPerTile<true>>) + sizeof(RelativeTiles<kD>)
                                : sizeof(SharedTiles<kD, kKeysPerTile<false>>);
  launch(relative ? attention_kernel<T, kD, true> : attention_kernel<T, kD, false>, shape, stream, arguments);
}

template <typename T> void choose_head(const KernelArguments& arguments, const LaunchShape& grid, bool relative, StreamHandle stream) {
  if (arguments.head_dim <= 64) launch_attention<T, 64>(arguments, grid, relative, stream);
  else if (arguments.head_dim <= 128) launch_attention<T, 128>(arguments, grid, relative, stream);
  else launch_attention<T, kLargestHeadDimension>(arguments, grid, relative, stream);
}

}  // namespace

void attention(const AttentionArguments& a, const PackedSequences& sequences, const DeviceTensor& out,
               const std::shared_ptr<Stream>& stream) {
  if (a.query->rows() == 0) return;
  const auto bits = [&](const DeviceTensor* tensor) { return tensor ? tensor->use_on<uint16_t>(stream) : nullptr; };
  const KernelArguments arguments{bits(a.query), bits(a.key), bits(a.value), bits(a.positions), bits(a.content_bias),
                                  bits(a.position_bias), bits(&out), sequences.offsets, a.query->row_stride(), a.key->row_stride(),
                                  a.value->row_stride(), a.positions ? a.positions->row_stride() : 0, out.row_stride(),
                                  static_cast<int>(a.query->columns()) / a.heads, sequences.longest, a.heads, a.scale, a.dropout,
                                  a.log_sum ? a.log_sum->use_on<float>(stream) : nullptr, a.log_sum ? a.log_sum->row_stride() : 0};
  const LaunchShape grid{static_cast<unsigned>((sequences.longest + kQueries - 1) / kQueries), static_cast<unsigned>(a.heads),
                         static_cast<unsigned>(sequences.count), kThreads, 0, 1, kernels_take_turns()};
  const bool relative = a.positions != nullptr;
  if (a.query->type() == DeviceType::kBFloat16) choose_head<BFloat16>(arguments, grid, relative, stream->handle());
  else choose_head<Float16>(arguments, grid, relative, stream->handle());
}

}  // namespace usmlite::cuda
