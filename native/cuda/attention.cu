#include "cuda/attention.hpp"

#include <algorithm>
#include <type_traits>

#include "cuda/attention_tiles.cuh"
#include "cuda/launch.hpp"
#include "cuda/position_window.cuh"
#include "cuda/running_softmax.cuh"
#include "cuda/scratch_matrix.hpp"

namespace usmlite::cuda {
namespace {

using namespace attention_tiles;

// A block makes 64 frames of one head and goes through the keys in tiles, the next of which is copied while one is used. In inference
// several blocks may share out the tiles.
template <bool kRelative> using RoomyTiles = std::conditional_t<kRelative, PositionTiles, KeyTiles<64, 2>>;
template <bool kRelative, int kD> using SmallTiles = KeyTiles<kRelative ? kD <= 128 ? 32 : 16 : 64, 1>;

struct KernelArguments {
  const uint16_t *query, *key, *value, *positions, *content_bias, *position_bias;
  uint16_t* out;
  const int32_t* offsets;
  int64_t query_stride, key_stride, value_stride, position_stride, out_stride;
  int head_dim, heads_per_key;
  PositionWindow window;
  float scale;
};
/// What only training has a use for. It costs registers, even as arguments that no instruction reads.
struct Training {
  Dropout dropout;  // of probabilities
  int heads;
  float* log_sum;   // (heads, frames)
  int64_t log_sum_stride;
  const int32_t* key_offsets;
  bool causal;
};
struct Inference {
  KeyParts parts;
};

template <int kD, class Tiles> struct SharedTiles {
  uint16_t key[Tiles::kStages][Tiles::kKeys * kRow<kD>], value[Tiles::kStages][Tiles::kKeys * kRow<kD>];
  uint16_t query[kQueries * kRow<kD>];
};
template <int kD, class Tiles> struct RelativeTiles {
  uint16_t positions[Tiles::kStages][Tiles::kPositions * kRow<kD>];
  uint16_t shifted_query[kQueries * kRow<kD>];      // q + v
  float skewed[kWarps][16 * Tiles::kSkewedStride];  // (q + v) . p of a warp's rows
};
template <int kD, bool kRelative, class Tiles> struct AllTiles : SharedTiles<kD, Tiles> {};
template <int kD, class Tiles> struct AllTiles<kD, true, Tiles> : SharedTiles<kD, Tiles>, RelativeTiles<kD, Tiles> {};

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

template <typename T, int kD, bool kRelative, class Purpose, class Tiles>
__global__ void __launch_bounds__(kThreads) attention_kernel(const KernelArguments a, const Purpose purpose) {
  if constexpr (Tiles::kStages == 1 && !USMLITE_SMALL_BLOCKS) return;
  constexpr bool kTraining = std::is_same_v<Purpose, Training>;
  ptx::take_turn();
  const int begin = a.offsets[blockIdx.z], end = a.offsets[blockIdx.z + 1], length = end - begin;
  int tile_of_queries = static_cast<int>(blockIdx.x), part = 0;
  if constexpr (!kTraining) tile_of_queries /= purpose.parts.count, part = static_cast<int>(blockIdx.x) % purpose.parts.count;
  const int first = tile_of_queries * kQueries;  // frame of the sequence
  if (first >= length) return;
  constexpr int kKeys = Tiles::kKeys;
  auto& tiles = *reinterpret_cast<SharedTiles<kD, Tiles>*>(shared_memory());
  auto& relative = *reinterpret_cast<RelativeTiles<kD, Tiles>*>(shared_memory() + sizeof(tiles));
  const int key_head = static_cast<int>(blockIdx.y) / a.heads_per_key * a.head_dim;  // its first column
  const auto head = [&a] { return static_cast<int>(blockIdx.y) * a.head_dim; };       // that of the query's: found anew to spare a register
  const int lane = ptx::lane_id(), warp = ptx::warp_id(), g = lane / 4, t = lane % 4;
  int keys_begin = begin, keys_end = end, from_key = 0, visible = length;  // keys that any of the block's frames sees
  bool causal = false;
  if constexpr (kRelative) from_key = a.window.first_key(first), visible = a.window.keys_end(first, length);
  if constexpr (!kTraining) {  // keys of the part
    const int first_key = from_key, tiles_of_keys = (visible - first_key + kKeys - 1) / kKeys;
    from_key = first_key + tiles_of_keys * part / purpose.parts.count * kKeys;
    visible = min(visible, first_key + tiles_of_keys * (part + 1) / purpose.parts.count * kKeys);
  } else if constexpr (!kRelative) {
    keys_begin = purpose.key_offsets[blockIdx.z], keys_end = purpose.key_offsets[blockIdx.z + 1], causal = purpose.causal;
    visible = causal ? min(keys_end - keys_begin, first + kQueries + keys_end - keys_begin - length) : keys_end - keys_begin;
  }

  const auto copy_tile = [&](int keys_from, int stage) {
    copy_rows<kD>(tiles.key[stage], kKeys, a.key + key_head, a.key_stride, keys_begin + keys_from, keys_begin, keys_end, a.head_dim);
    copy_rows<kD>(tiles.value[stage], kKeys, a.value + key_head, a.value_stride, keys_begin + keys_from, keys_begin, keys_end, a.head_dim);
    if constexpr (kRelative) {
      copy_rows<kD>(relative.positions[stage], Tiles::kPositions, a.positions + head(), a.position_stride, a.window.first_row(first, keys_from), 0,
                    a.window.rows, a.head_dim);
    }
    ptx::copy_async_commit();
  };

  copy_rows<kD>(tiles.query, kQueries, a.query + head(), a.query_stride, begin + first, begin, end, a.head_dim);
  copy_tile(from_key, 0);
  ptx::copy_async_wait<0>();
  ptx::block_sync();
  if constexpr (kRelative) {
    add_to_rows<T, kD>(relative.shifted_query, tiles.query, a.position_bias + head(), a.head_dim);
    ptx::block_sync();
    add_to_rows<T, kD>(tiles.query, tiles.query, a.content_bias + head(), a.head_dim);
    ptx::block_sync();
  }
  uint32_t query[kD / 16][4];
  load_queries<kD>(query, tiles.query + 16 * warp * kRow<kD>, lane);

  RunningSoftmax<kD> softmax;
  const float scale = a.scale * kLog2E;
  for (int keys_from = from_key, stage = 0; keys_from < visible; keys_from += kKeys, stage ^= Tiles::kStages - 1) {
    if (Tiles::kStages == 1 && keys_from > from_key) {
      ptx::block_sync();  // nobody uses the tile any more
      copy_tile(keys_from, 0);
    }
    ptx::copy_async_wait<0>();
    ptx::block_sync();  // the tile is there, and nobody uses the other one any more
    if (Tiles::kStages == 2 && keys_from + kKeys < visible) copy_tile(keys_from + kKeys, stage ^ 1);
    float scores[kKeys / 8][4];
    multiply_rows<T, kD, kKeys / 8>(scores, query, tiles.key[stage], lane);
    if constexpr (kRelative) {
      uint32_t shifted[kD / 16][4];
      load_queries<kD>(shifted, relative.shifted_query + 16 * warp * kRow<kD>, lane);
      float products[Tiles::kPositionsPerWarp / 8][4];
      multiply_rows<T, kD, Tiles::kPositionsPerWarp / 8>(products, shifted, relative.positions[stage] + 16 * (kWarps - 1 - warp) * kRow<kD>, lane);
      add_by_distance<Tiles>(scores, products, relative.skewed[warp], lane);
    }
#pragma unroll
    for (int tile = 0; tile < kKeys / 8; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = keys_from + 8 * tile + 2 * t + i % 2, query = first + 16 * warp + g + 8 * (i / 2);
        const bool is_hidden = kRelative ? !a.window.sees(query, key) : causal && key - (keys_end - keys_begin) > query - length;
        scores[tile][i] = key < visible && !is_hidden ? scores[tile][i] * scale : kNever;
      }
    }
    softmax.template soften<kKeys>(scores);
    if constexpr (kTraining) {
      if (purpose.dropout.threshold) {
        const int frame = begin + first + 16 * warp + g, head_index = static_cast<int>(blockIdx.y);
        const uint64_t from = static_cast<uint64_t>(keys_from);
        const uint64_t indices[2] = {dropout_index(frame, purpose.heads, head_index) + from,
                                     dropout_index(frame + 8, purpose.heads, head_index) + from};
        drop<kKeys>(scores, lane, purpose.dropout, indices);
      }
    }
    accumulate<T, kD, kKeys>(softmax.sums, scores, tiles.value[stage], lane);
  }

  if constexpr (!kTraining) {
    const int tiles = static_cast<int>(gridDim.x) / purpose.parts.count;
    const int row = ((static_cast<int>(blockIdx.z * gridDim.y + blockIdx.y)) * tiles + tile_of_queries) * kWarps + warp;
    if (purpose.parts.count > 1 && !join_parts<kD>(softmax, purpose.parts, row, part, lane)) return;
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = row_sum(softmax.total[half]), reciprocal = 1.0f / total;
    const int frame = first + 16 * warp + g + 8 * half;
    if constexpr (kTraining) {
      if (frame < length && t == 0) {
        purpose.log_sum[blockIdx.y * purpose.log_sum_stride + begin + frame] = (softmax.maximum[half] + ptx::logarithm_base_2(total)) / kLog2E;
      }
    }
#pragma unroll
    for (int tile = 0; tile < kD / 8; ++tile) {
      const int column = 8 * tile + 2 * t;
      if (frame < length && column < a.head_dim) {
        *reinterpret_cast<uint32_t*>(a.out + (begin + frame) * a.out_stride + head() + column) =
            ptx::round2<T>(softmax.sums[tile][2 * half] * reciprocal, softmax.sums[tile][2 * half + 1] * reciprocal);
      }
    }
  }
}

struct Launch {
  KernelArguments arguments;
  LaunchShape shape;
  bool relative;
  int longest;
  const Stream& stream;
};

/// Among how many blocks to divide the keys that a block of frames sees, so that there is one for every multiprocessor.
int key_parts(const LaunchShape& grid, int longest, const PositionWindow& window) {
  if (gpu_properties().emulated) return 1 + longest % 4;  // time means nothing there: each number gets its share of tests
  constexpr int kFewestKeys = 64;  // of a part
  const auto blocks = static_cast<int64_t>(grid.grid_x) * grid.grid_y * grid.grid_z;
  return static_cast<int>(
      std::max<int64_t>(1, std::min<int64_t>(gpu_properties().multiprocessors / blocks, window.most_keys(longest) / kFewestKeys)));
}

template <typename T, int kD, bool kRelative, class Purpose> void launch_tiles(const Launch& to, LaunchShape shape, const Purpose& purpose) {
  using Roomy = AllTiles<kD, kRelative, RoomyTiles<kRelative>>;
  using Small = AllTiles<kD, kRelative, SmallTiles<kRelative, kD>>;
  static_assert(kFitsEverywhere<Small>);
  if constexpr (!kFitsEverywhere<Roomy>) {
    if (!fits_here<Roomy>()) {
      shape.shared_bytes = sizeof(Small);
      launch(attention_kernel<T, kD, kRelative, Purpose, SmallTiles<kRelative, kD>>, shape, to.stream.handle(), to.arguments, purpose);
      return;
    }
  }
  shape.shared_bytes = sizeof(Roomy);
  launch(attention_kernel<T, kD, kRelative, Purpose, RoomyTiles<kRelative>>, shape, to.stream.handle(), to.arguments, purpose);
}

template <typename T, int kD, class Purpose> void launch_attention(const Launch& to, const Purpose& purpose) {
  LaunchShape shape = to.shape;
  ScratchMatrix found;
  Purpose used = purpose;
  if constexpr (std::is_same_v<Purpose, Inference>) {
    if (KeyParts& parts = used.parts; parts.count > 1) {
      const int rows = static_cast<int>(shape.grid_x * shape.grid_y * shape.grid_z) * kWarps;
      found = ScratchMatrix(DeviceType::kFloat32, 1, int64_t{kPartFloats<kD>} * rows * parts.count, to.stream);
      parts.found = found.use_on<float>(to.stream);
      parts.counters = to.stream.counters(rows);
      shape.grid_x *= static_cast<unsigned>(parts.count);
    }
  }
  if (to.relative) launch_tiles<T, kD, true>(to, shape, used);
  else launch_tiles<T, kD, false>(to, shape, used);
}

template <typename T, class Purpose> void choose_head(const Launch& to, const Purpose& purpose) {
  const int head_dim = to.arguments.head_dim;
  if (head_dim <= 64) return launch_attention<T, 64>(to, purpose);
  if (head_dim <= kLargestTrainedHeadDimension) return launch_attention<T, kLargestTrainedHeadDimension>(to, purpose);
  if constexpr (std::is_same_v<Purpose, Inference>) launch_attention<T, kLargestHeadDimension>(to, purpose);
}

template <typename T> void choose_purpose(const Launch& to, const AttentionArguments& a, const Stream& stream) {
  if (!a.log_sum) {
    const int parts = a.batch_invariant ? 1 : key_parts(to.shape, to.longest, to.arguments.window);
    return choose_head<T>(to, Inference{{parts, nullptr, nullptr}});
  }
  if constexpr (std::is_same_v<T, BFloat16>) {
    const int32_t* key_offsets = a.keys ? a.keys->offsets : to.arguments.offsets;
    choose_head<T>(to, Training{a.dropout, a.heads, a.log_sum->use_on<float>(stream), a.log_sum->row_stride(), key_offsets, a.causal});
  }
}

}  // namespace

void attention(const AttentionArguments& a, const PackedSequences& sequences, const DeviceMatrix& out,
               const Stream& stream) {
  if (a.query->rows() == 0) return;
  const auto bits = [&](const DeviceMatrix* tensor) { return tensor ? tensor->use_on<uint16_t>(stream) : nullptr; };
  const KernelArguments arguments{bits(a.query), bits(a.key), bits(a.value), bits(a.positions), bits(a.content_bias),
                                  bits(a.position_bias), bits(&out), sequences.offsets, a.query->row_stride(), a.key->row_stride(),
                                  a.value->row_stride(), a.positions ? a.positions->row_stride() : 0, out.row_stride(),
                                  static_cast<int>(a.query->columns()) / a.heads, a.heads / a.key_heads,
                                  PositionWindow{a.origin, a.positions ? static_cast<int>(a.positions->rows()) : 0, a.window.left, a.window.right}, a.scale};
  const LaunchShape grid{static_cast<unsigned>((sequences.longest + kQueries - 1) / kQueries), static_cast<unsigned>(a.heads),
                         static_cast<unsigned>(sequences.count), kThreads, 0, 1, kernels_take_turns()};
  const Launch to{arguments, grid, a.positions != nullptr, sequences.longest, stream};
  if (a.query->type() == DeviceType::kBFloat16) choose_purpose<BFloat16>(to, a, stream);
  else choose_purpose<Float16>(to, a, stream);
}

}  // namespace usmlite::cuda
