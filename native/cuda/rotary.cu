#include "cuda/rotary.hpp"

#include <cmath>

#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kRotaryThreads = 128;

struct RotaryArguments {
  uint16_t *query, *key;  // key: null where there are queries alone
  const int32_t* offsets;
  int64_t query_stride, key_stride;
  int heads, half;
  float direction;  // 1, or -1 to turn back
  float exponent;  // log2(theta) / half: frequency i is 2^(-i exponent)
};

// A block turns one frame of one sequence. Threads are beside each other in a half of a head, as many heads at once as there are
// threads for; a thread's pairs, of queries and of keys, share sine and cosine.
template <typename T> __global__ void __launch_bounds__(kRotaryThreads) rotary_kernel(const RotaryArguments a) {
  ptx::take_turn();
  const int begin = a.offsets[blockIdx.y], position = static_cast<int>(blockIdx.x);
  if (begin + position >= a.offsets[blockIdx.y + 1]) return;
  const int64_t frame = begin + position;
  const int width = min(a.half, kRotaryThreads), lanes = kRotaryThreads / width, lane = static_cast<int>(threadIdx.x) / width;
  if (lane >= lanes) return;
  const int heads = a.key ? 2 * a.heads : a.heads;
  for (int i = static_cast<int>(threadIdx.x) % width; i < a.half; i += width) {
    float sine, cosine;
    ptx::sine_cosine(static_cast<float>(position) * ptx::exponential_base_2(-a.exponent * static_cast<float>(i)), sine, cosine);
    sine *= a.direction;
    for (int head = lane; head < heads; head += lanes) {
      const bool is_key = head >= a.heads;
      uint16_t* row = is_key ? a.key + frame * a.key_stride : a.query + frame * a.query_stride;
      uint16_t* pair = row + (is_key ? head - a.heads : head) * 2 * a.half + i;
      const float x = ptx::to_float<T>(pair[0]), y = ptx::to_float<T>(pair[a.half]);
      pair[0] = ptx::from_float<T>(x * cosine - y * sine);
      pair[a.half] = ptx::from_float<T>(y * cosine + x * sine);
    }
  }
}

}  // namespace

void rotate_heads(const DeviceMatrix& query, const DeviceMatrix* key, int heads, float theta, bool inverse, const PackedSequences& sequences,
                  const Stream& stream) {
  if (query.rows() == 0) return;
  const int half = static_cast<int>(query.columns()) / heads / 2;
  const RotaryArguments arguments{query.use_on<uint16_t>(stream), key ? key->use_on<uint16_t>(stream) : nullptr, sequences.offsets,
                                  query.row_stride(), key ? key->row_stride() : 0, heads, half, inverse ? -1.0f : 1.0f,
                                  std::log2(theta) / static_cast<float>(half)};
  const LaunchShape shape{
      static_cast<unsigned>(sequences.longest), static_cast<unsigned>(sequences.count), 1, kRotaryThreads, 0, 1, kernels_take_turns()};
  launch(query.type() == DeviceType::kBFloat16 ? rotary_kernel<BFloat16> : rotary_kernel<Float16>, shape, stream.handle(), arguments);
}

}  // namespace usmlite::cuda
