#include "cuda/cached_attention.hpp"

#include "cuda/block_reduction.cuh"
#include "cuda/launch.hpp"
#include "cuda/natural_logarithm.cuh"

namespace usmlite::cuda {
namespace {

// A block takes a head of one query. Its warps go through the keys in turn, a few at once, so that their loads are under way together, and keep
// sums of exp(score - maximum) v of their own, which are joined in the end. The lanes of a warp share out the values of a head, in pairs.
constexpr int kWarps = 8, kQueryThreads = 32 * kWarps, kKeysAtOnce = 4;
constexpr float kHidden = -1e30f;  // a score that has no weight, but is a number

struct KernelArguments {
  const uint16_t *query, *key, *value;
  uint16_t* out;
  const int32_t *query_offsets, *key_offsets, *key_rows;
  int64_t query_stride, key_stride, value_stride, out_stride;
  int head_dim;
  float scale;
  bool causal;
};

template <int kPairs> struct JoinedWarps {
  float maximum[kWarps], total[kWarps];
  float sums[kWarps][64 * kPairs];
};

/// Two values of a head; zeros beyond it.
template <typename T> __device__ __forceinline__ float2 load_pair(const uint16_t* head, int column, int head_dim) {
  return column < head_dim ? ptx::floats2<T>(*reinterpret_cast<const uint32_t*>(head + column)) : float2{0.0f, 0.0f};
}

template <typename T, int kPairs> __global__ void __launch_bounds__(kQueryThreads) cached_attention_kernel(const KernelArguments a) {
  ptx::take_turn();
  const int first = a.query_offsets[blockIdx.z], queries = a.query_offsets[blockIdx.z + 1] - first, index = static_cast<int>(blockIdx.x);
  if (index >= queries) return;
  const int begin = a.key_offsets[blockIdx.z], keys = a.key_offsets[blockIdx.z + 1] - begin;
  const int visible = a.causal ? keys - (queries - 1 - index) : keys;
  const int head = static_cast<int>(blockIdx.y) * a.head_dim, lane = ptx::lane_id(), warp = ptx::warp_id();

  float2 query[kPairs], sums[kPairs] = {};
#pragma unroll
  for (int p = 0; p < kPairs; ++p) {
    query[p] = load_pair<T>(a.query + (first + index) * a.query_stride + head, 2 * lane + 64 * p, a.head_dim);
    query[p].x *= a.scale * kLog2E, query[p].y *= a.scale * kLog2E;
  }
  float maximum = kHidden, total = 0.0f;
  for (int from = warp * kKeysAtOnce; from < visible; from += kWarps * kKeysAtOnce) {
    float2 key[kKeysAtOnce][kPairs], value[kKeysAtOnce][kPairs];
#pragma unroll
    for (int i = 0; i < kKeysAtOnce; ++i) {
      const int place = begin + min(from + i, visible - 1);
      const int64_t row = a.key_rows ? a.key_rows[place] : place;
#pragma unroll
      for (int p = 0; p < kPairs; ++p) {
        key[i][p] = load_pair<T>(a.key + row * a.key_stride + head, 2 * lane + 64 * p, a.head_dim);
        value[i][p] = load_pair<T>(a.value + row * a.value_stride + head, 2 * lane + 64 * p, a.head_dim);
      }
    }
    float scores[kKeysAtOnce], largest = maximum;
#pragma unroll
    for (int i = 0; i < kKeysAtOnce; ++i) {
      float product = 0.0f;
#pragma unroll
      for (int p = 0; p < kPairs; ++p) product += query[p].x * key[i][p].x + query[p].y * key[i][p].y;
      product = warp_reduce(product, Sum{});
      scores[i] = from + i < visible ? product : kHidden;
      largest = fmaxf(largest, scores[i]);
    }
    const float shrink = ptx::exponential_base_2(maximum - largest);
    maximum = largest, total *= shrink;
#pragma unroll
    for (int p = 0; p < kPairs; ++p) sums[p].x *= shrink, sums[p].y *= shrink;
#pragma unroll
    for (int i = 0; i < kKeysAtOnce; ++i) {
      const float weight = ptx::exponential_base_2(scores[i] - largest);
      total += weight;
#pragma unroll
      for (int p = 0; p < kPairs; ++p) sums[p].x += weight * value[i][p].x, sums[p].y += weight * value[i][p].y;
    }
  }

  auto& joined = *reinterpret_cast<JoinedWarps<kPairs>*>(shared_memory());
  if (lane == 0) joined.maximum[warp] = maximum, joined.total[warp] = total;
#pragma unroll
  for (int p = 0; p < kPairs; ++p) {
    joined.sums[warp][2 * lane + 64 * p] = sums[p].x;
    joined.sums[warp][2 * lane + 64 * p + 1] = sums[p].y;
  }
  ptx::block_sync();
  const int column = 2 * static_cast<int>(threadIdx.x);
  if (column >= a.head_dim) return;
  float largest = kHidden;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) largest = fmaxf(largest, joined.maximum[w]);
  float weights = 0.0f;
  float2 sum = {0.0f, 0.0f};
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    const float weight = ptx::exponential_base_2(joined.maximum[w] - largest);
    weights += weight * joined.total[w];
    sum.x += weight * joined.sums[w][column], sum.y += weight * joined.sums[w][column + 1];
  }
  *reinterpret_cast<uint32_t*>(a.out + (first + index) * a.out_stride + head + column) = ptx::round2<T>(sum.x / weights, sum.y / weights);
}

struct ExtensionArguments {
  const uint4 *keys, *values;
  uint4 *cached_keys, *cached_values;
  const int32_t *query_offsets, *key_offsets, *key_rows;
  int64_t stride, cached_stride;  // vectors of 16 bytes
  int vectors;                    // of a row
};

// A block copies a token's rows.
__global__ void __launch_bounds__(kQueryThreads) extend_kernel(const ExtensionArguments a) {
  ptx::take_turn();
  const int first = a.query_offsets[blockIdx.y], queries = a.query_offsets[blockIdx.y + 1] - first, index = static_cast<int>(blockIdx.x);
  if (index >= queries) return;
  const int place = a.key_offsets[blockIdx.y + 1] - queries + index;
  if (place < a.key_offsets[blockIdx.y]) return;  // one of the two was refilled without the other
  const int64_t from = (first + index) * a.stride, to = (a.key_rows ? a.key_rows[place] : place) * a.cached_stride;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < a.vectors; i += kQueryThreads) {
    a.cached_keys[to + i] = a.keys[from + i];
    a.cached_values[to + i] = a.values[from + i];
  }
}

template <typename T, int kPairs> void launch_for(const KernelArguments& arguments, LaunchShape shape, StreamHandle stream) {
  shape.shared_bytes = sizeof(JoinedWarps<kPairs>);
  launch(cached_attention_kernel<T, kPairs>, shape, stream, arguments);
}

template <typename T> void choose_head(const KernelArguments& arguments, const LaunchShape& shape, StreamHandle stream) {
  if (arguments.head_dim <= 64) launch_for<T, 1>(arguments, shape, stream);
  else if (arguments.head_dim <= 128) launch_for<T, 2>(arguments, shape, stream);
  else launch_for<T, kLargestCachedHead / 64>(arguments, shape, stream);
}

}  // namespace

void cached_attention(const CachedAttentionArguments& a, const PackedSequences& queries, const PackedSequences& keys, const DeviceMatrix& out,
                      const Stream& stream) {
  if (a.query->rows() == 0) return;
  const KernelArguments arguments{a.query->use_on<uint16_t>(stream), a.key->use_on<uint16_t>(stream), a.value->use_on<uint16_t>(stream),
                                  out.use_on<uint16_t>(stream), queries.offsets, keys.offsets, keys.rows, a.query->row_stride(),
                                  a.key->row_stride(), a.value->row_stride(), out.row_stride(),
                                  static_cast<int>(a.query->columns()) / a.heads, a.scale, a.causal};
  const LaunchShape shape{static_cast<unsigned>(queries.longest), static_cast<unsigned>(a.heads), static_cast<unsigned>(queries.count), kQueryThreads, 0, 1,
                          kernels_take_turns()};
  if (a.query->type() == DeviceType::kBFloat16) choose_head<BFloat16>(arguments, shape, stream.handle());
  else choose_head<Float16>(arguments, shape, stream.handle());
}

void extend_cache(const CacheExtension& e, const PackedSequences& queries, const PackedSequences& keys, const Stream& stream) {
  if (e.keys->rows() == 0) return;
  constexpr int64_t kValues = 16 / sizeof(uint16_t);  // of a vector; rows begin at multiples of them
  const ExtensionArguments arguments{e.keys->use_on<uint4>(stream), e.values->use_on<uint4>(stream), e.cached_keys->use_on<uint4>(stream),
                                     e.cached_values->use_on<uint4>(stream), queries.offsets, keys.offsets, keys.rows, e.keys->row_stride() / kValues,
                                     e.cached_keys->row_stride() / kValues, static_cast<int>((e.keys->columns() + kValues - 1) / kValues)};
  launch(extend_kernel,
         LaunchShape{static_cast<unsigned>(queries.longest), static_cast<unsigned>(queries.count), 1, kQueryThreads, 0, 1, kernels_take_turns()},
         stream.handle(), arguments);
}

}  // namespace usmlite::cuda
