#include "cuda/ctc_best_path.hpp"

#include "cuda/block_reduction.cuh"
#include "cuda/element.cuh"
#include "cuda/launch.hpp"
#include "cuda/natural_logarithm.cuh"
#include "cuda/warp_rows.cuh"

namespace usmlite::cuda {
namespace {

template <typename T>
__global__ void __launch_bounds__(32 * kWarpsPerBlock) best_path_kernel(const uint16_t* logits, int64_t stride, int64_t frames, int vocabulary,
                                                                       int blank, float* path, int64_t path_stride) {
  ptx::take_turn();
  const int64_t row = row_of_warp();
  if (row >= frames) return;
  const int lane = ptx::lane_id();
  const uint16_t* x = logits + row * stride;
  float largest = ptx::float_of(0xff800000u);  // negative infinity
  int best = 0;
#pragma unroll 2
  for (int i = lane; i < vocabulary; i += 32) {
    const float value = Element<T>::load(x + i);
    if (value > largest) largest = value, best = i;
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    const float other = ptx::shuffle_xor(largest, distance);
    const int place = ptx::shuffle_xor(best, distance);
    if (other > largest || (other == largest && place < best)) largest = other, best = place;
  }
  float sum = 0.0f;
#pragma unroll 2
  for (int i = lane; i < vocabulary; i += 32) sum += exponential(Element<T>::load(x + i) - largest);
  sum = warp_reduce(sum, Sum{});
  if (lane != 0) return;
  const float total = largest + logarithm(sum);
  float* y = path + row * path_stride;
  y[0] = static_cast<float>(best);
  y[1] = largest - total;
  y[2] = Element<T>::load(x + blank) - total;
}

}  // namespace

void ctc_best_path(const DeviceMatrix& logits, int blank, const DeviceMatrix& path, const Stream& stream) {
  if (logits.rows() == 0) return;
  launch(logits.type() == DeviceType::kBFloat16 ? best_path_kernel<BFloat16> : best_path_kernel<Float16>,
         LaunchShape{blocks_of_warps(logits.rows()), 1, 1, 32 * kWarpsPerBlock, 0, 1, kernels_take_turns()}, stream.handle(),
         logits.use_on<uint16_t>(stream), logits.row_stride(), logits.rows(), static_cast<int>(logits.columns()), blank, path.use_on<float>(stream),
         path.row_stride());
}

}  // namespace usmlite::cuda
