#include "cuda/layer_norm.hpp"

#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"
#include "cuda/warp_rows.cuh"

namespace usmlite::cuda {
namespace {

struct LayerNormArguments {
  const uint16_t* x;
  uint16_t* y;
  const float *weight, *bias;
  int64_t rows, x_stride, y_stride;
  int columns;
  float epsilon;
};

__device__ __forceinline__ float warp_sum(float value) {
  for (int distance = 16; distance > 0; distance /= 2) value += ptx::shuffle_xor(value, distance);
  return value;
}

/// Calls body(column, pair) for the pairs of a row that belong to this lane; the last pair may reach into the gap between
/// rows.
template <typename Body> __device__ __forceinline__ void for_each_pair(const uint16_t* row, int columns, int lane, Body&& body) {
  for (int column = 2 * lane; column < columns; column += 64) body(column, *reinterpret_cast<const uint32_t*>(row + column));
}

// Mean and variance in two passes over the row, which the first leaves in the cache: sums of squares would lose precision.
template <typename T> __global__ void __launch_bounds__(32 * kWarpsPerBlock) layer_norm_kernel(const LayerNormArguments a) {
  ptx::take_turn();
  const int64_t row = row_of_warp();
  if (row >= a.rows) return;
  const int lane = ptx::lane_id();
  const uint16_t* x = a.x + row * a.x_stride;
  float sum = 0.0f;
  for_each_pair(x, a.columns, lane, [&](int column, uint32_t pair) {
    const float2 v = ptx::floats2<T>(pair);
    sum += v.x + (column + 1 < a.columns ? v.y : 0.0f);
  });
  const float mean = warp_sum(sum) / static_cast<float>(a.columns);
  float squares = 0.0f;
  for_each_pair(x, a.columns, lane, [&](int column, uint32_t pair) {
    const float2 v = ptx::floats2<T>(pair);
    squares += (v.x - mean) * (v.x - mean) + (column + 1 < a.columns ? (v.y - mean) * (v.y - mean) : 0.0f);
  });
  const float factor = ptx::reciprocal_square_root(warp_sum(squares) / static_cast<float>(a.columns) + a.epsilon);
  uint16_t* y = a.y + row * a.y_stride;
  for_each_pair(x, a.columns, lane, [&](int column, uint32_t pair) {
    const float2 v = ptx::floats2<T>(pair);
    const bool two = column + 1 < a.columns;
    const float first = (v.x - mean) * factor * a.weight[column] + (a.bias ? a.bias[column] : 0.0f);
    const float second = two ? (v.y - mean) * factor * a.weight[column + 1] + (a.bias ? a.bias[column + 1] : 0.0f) : 0.0f;
    *reinterpret_cast<uint32_t*>(y + column) = ptx::round2<T>(first, second);
  });
}

}  // namespace

void layer_norm(const DeviceTensor& x, const DeviceTensor& weight, const DeviceTensor* bias, float epsilon, const DeviceTensor& y,
                const std::shared_ptr<Stream>& stream) {
  if (x.rows() == 0) return;
  const LayerNormArguments arguments{x.use_on<uint16_t>(stream), y.use_on<uint16_t>(stream), weight.use_on<float>(stream),
                                     bias ? bias->use_on<float>(stream) : nullptr, x.rows(), x.row_stride(), y.row_stride(),
                                     static_cast<int>(x.columns()), epsilon};
  launch(x.type() == DeviceType::kBFloat16 ? layer_norm_kernel<BFloat16> : layer_norm_kernel<Float16>,
         LaunchShape{blocks_of_warps(x.rows()), 1, 1, 32 * kWarpsPerBlock, 0, 1, kernels_take_turns()}, stream->handle(), arguments);
}

}  // namespace usmlite::cuda
