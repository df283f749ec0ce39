#include "cuda/log_softmax.hpp"

#include "cuda/launch.hpp"
#include "cuda/natural_logarithm.cuh"
#include "cuda/ptx.cuh"
#include "cuda/warp_rows.cuh"

namespace usmlite::cuda {
namespace {

// A row is read three times: for its maximum, its sum, and to write.
template <typename T>
__global__ void __launch_bounds__(32 * kWarpsPerBlock) log_softmax_kernel(const uint16_t* x, int64_t x_stride, float* y, int64_t y_stride,
                                                                         int64_t rows, int columns) {
  ptx::take_turn();
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const int lane = ptx::lane_id();
  const uint16_t* from = x + row * x_stride;
  float largest = ptx::float_of(0xff800000u);  // negative infinity
  for (int i = lane; i < columns; i += 32) largest = fmaxf(largest, ptx::to_float<T>(from[i]));
  for (int distance = 16; distance > 0; distance /= 2) largest = fmaxf(largest, ptx::shuffle_xor(largest, distance));
  float sum = 0.0f;
  for (int i = lane; i < columns; i += 32) sum += exponential(ptx::to_float<T>(from[i]) - largest);
  for (int distance = 16; distance > 0; distance /= 2) sum += ptx::shuffle_xor(sum, distance);
  const float total = largest + logarithm(sum);
  for (int i = lane; i < columns; i += 32) y[row * y_stride + i] = ptx::to_float<T>(from[i]) - total;
}

}  // namespace

void log_softmax(const DeviceMatrix& x, const DeviceMatrix& y, const Stream& stream) {
  if (x.rows() == 0) return;
  launch(x.type() == DeviceType::kBFloat16 ? log_softmax_kernel<BFloat16> : log_softmax_kernel<Float16>,
         LaunchShape{blocks_of_warps(x.rows()), 1, 1, 32 * kWarpsPerBlock, 0, 1, kernels_take_turns()}, stream.handle(), x.use_on<uint16_t>(stream),
         x.row_stride(), y.use_on<float>(stream), y.row_stride(), x.rows(), static_cast<int>(x.columns()));
}

}  // namespace usmlite::cuda
