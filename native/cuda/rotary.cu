#include "cuda/rotary.hpp"

#include <cmath>

#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kRotaryThreads = 128;

struct RotaryArguments {
  uint16_t* x;
  const int32_t* offsets;
  int64_t stride;
  int heads, half;
  float direction;  // 1, or -1 to turn back
  float exponent;  // log2(theta) / half: frequency i is 2^(-i exponent)
};

// A block turns one frame of one sequence; a thread the same pair of several heads, for which sine and cosine are shared.
template <typename T> __global__ void __launch_bounds__(kRotaryThreads) rotary_kernel(const RotaryArguments a) {
  ptx::take_turn();
  const int begin = a.offsets[blockIdx.y], position = static_cast<int>(blockIdx.x);
  if (begin + position >= a.offsets[blockIdx.y + 1]) return;
  uint16_t* row = a.x + (begin + position) * a.stride;
  for (int i = static_cast<int>(threadIdx.x); i < a.half; i += kRotaryThreads) {
    float sine, cosine;
    ptx::sine_cosine(static_cast<float>(position) * ptx::exponential_base_2(-a.exponent * static_cast<float>(i)), sine, cosine);
    sine *= a.direction;
    for (int head = 0; head < a.heads; ++head) {
      uint16_t* pair = row + head * 2 * a.half + i;
      const float x = ptx::to_float<T>(pair[0]), y = ptx::to_float<T>(pair[a.half]);
      pair[0] = ptx::from_float<T>(x * cosine - y * sine);
      pair[a.half] = ptx::from_float<T>(y * cosine + x * sine);
    }
  }
}

}  // namespace

void rotate_heads(const DeviceTensor& x, int heads, float theta, bool inverse, const PackedSequences& sequences,
                  const std::shared_ptr<Stream>& stream) {
  if (x.rows() == 0) return;
  const int half = static_cast<int>(x.columns()) / heads / 2;
  const RotaryArguments arguments{x.use_on<uint16_t>(stream), sequences.offsets, x.row_stride(), heads, half, inverse ? -1.0f : 1.0f,
                                  std::log2(theta) / static_cast<float>(half)};
  const LaunchShape shape{static_cast<unsigned>(sequences.longest), static_cast<unsigned>(sequences.count), 1, kRotaryThreads, 0, 1, kernels_take_turns()};
  launch(x.type() == DeviceType::kBFloat16 ? rotary_kernel<BFloat16> : rotary_kernel<Float16>, shape, stream->handle(), arguments);
}

}  // namespace usmlite::cuda
