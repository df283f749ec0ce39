#include "cuda/layer_norm.hpp"

#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"
#include "cuda/warp_rows.cuh"

namespace usmlite::cuda {
namespace {

struct Normalization {
  const float *weight, *bias;
  uint16_t* y;  // null: none
  int64_t y_stride;
};

struct LayerNormArguments {
  const uint16_t* x;
  int64_t rows, x_stride;
  int columns;
  float epsilon;
  Normalization first, second;  // the second of what the first gives
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
template <typename T>
__device__ __forceinline__ void normalize_row(const uint16_t* x, const Normalization& n, int64_t row, int columns, float epsilon) {
  const int lane = ptx::lane_id();
  float sum = 0.0f;
  for_each_pair(x, columns, lane, [&](int column, uint32_t pair) {
    const float2 v = ptx::floats2<T>(pair);
    sum += v.x + (column + 1 < columns ? v.y : 0.0f);
  });
  const float mean = warp_sum(sum) / static_cast<float>(columns);
  float squares = 0.0f;
  for_each_pair(x, columns, lane, [&](int column, uint32_t pair) {
    const float2 v = ptx::floats2<T>(pair);
    squares += (v.x - mean) * (v.x - mean) + (column + 1 < columns ? (v.y - mean) * (v.y - mean) : 0.0f);
  });
  const float factor = ptx::reciprocal_square_root(warp_sum(squares) / static_cast<float>(columns) + epsilon);
  uint16_t* y = n.y + row * n.y_stride;
  for_each_pair(x, columns, lane, [&](int column, uint32_t pair) {
    const float2 v = ptx::floats2<T>(pair);
    const bool two = column + 1 < columns;
    const float first = (v.x - mean) * factor * n.weight[column] + (n.bias ? n.bias[column] : 0.0f);
    const float second = two ? (v.y - mean) * factor * n.weight[column + 1] + (n.bias ? n.bias[column + 1] : 0.0f) : 0.0f;
    *reinterpret_cast<uint32_t*>(y + column) = ptx::round2<T>(first, second);
  });
}

// Each lane reads for the second what it wrote itself.
template <typename T> __global__ void __launch_bounds__(32 * kWarpsPerBlock) layer_norm_kernel(const LayerNormArguments a) {
  ptx::take_turn();
  const int64_t row = row_of_warp();
  if (row >= a.rows) return;
  normalize_row<T>(a.x + row * a.x_stride, a.first, row, a.columns, a.epsilon);
  if (a.second.y) normalize_row<T>(a.first.y + row * a.first.y_stride, a.second, row, a.columns, a.epsilon);
}

Normalization placed(const LayerNorm& norm, const Stream& stream) {
  return {norm.weight->use_on<float>(stream), norm.bias ? norm.bias->use_on<float>(stream) : nullptr, norm.y->use_on<uint16_t>(stream),
          norm.y->row_stride()};
}

}  // namespace

void layer_norm(const DeviceMatrix& x, float epsilon, const LayerNorm& norm, const LayerNorm* next, const Stream& stream) {
  if (x.rows() == 0) return;
  const LayerNormArguments arguments{x.use_on<uint16_t>(stream), x.rows(), x.row_stride(), static_cast<int>(x.columns()), epsilon,
                                     placed(norm, stream), next ? placed(*next, stream) : Normalization{}};
  launch(x.type() == DeviceType::kBFloat16 ? layer_norm_kernel<BFloat16> : layer_norm_kernel<Float16>,
         LaunchShape{blocks_of_warps(x.rows()), 1, 1, 32 * kWarpsPerBlock, 0, 1, kernels_take_turns()}, stream.handle(), arguments);
}

}  // namespace usmlite::cuda
