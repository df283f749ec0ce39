#include "cuda/linear_finish.hpp"

#include "cuda/dropout.cuh"
#include "cuda/launch.hpp"
#include "cuda/row_values.cuh"
#include "cuda/slopes.cuh"

namespace usmlite::cuda {
namespace {

// A block takes 64 columns of kRows rows: 8 threads beside each other take 8 columns each of one row.
constexpr int kFinishThreads = 256, kVectors = 8, kLanes = kFinishThreads / kVectors, kRows = 128;
constexpr int kColumns = kVectors * kHalvesPerVector;

struct LinearFinishArguments {
  const uint16_t *sums, *residual, *gradient;
  uint16_t *y, *sum_gradient;
  const float* bias;
  float* bias_parts;  // (row blocks, columns)
  int64_t rows, stride;
  int columns;
  float scale, residual_scale;
  Activation activation;
  Dropout dropout;
};

__device__ __forceinline__ void load_biased_sums(const LinearFinishArguments& a, int64_t at, int column, float (&x)[kHalvesPerVector]) {
  load_values<BFloat16>(a.sums + at, x);
#pragma unroll
  for (int i = 0; i < kHalvesPerVector; ++i) {
    if (a.bias && column + i < a.columns) x[i] += a.bias[column + i];
  }
}

__global__ void __launch_bounds__(kFinishThreads) finish_kernel(const LinearFinishArguments a) {
  ptx::take_turn();
  const int thread = static_cast<int>(threadIdx.x), column = static_cast<int>(blockIdx.x) * kColumns + thread % kVectors * kHalvesPerVector;
  if (column >= a.columns) return;
  for (int lane = thread / kVectors; lane < kRows; lane += kLanes) {
    const int64_t row = static_cast<int64_t>(blockIdx.y) * kRows + lane, at = row * a.stride + column;
    if (row >= a.rows) return;
    float x[kHalvesPerVector];
    load_biased_sums(a, at, column, x);
#pragma unroll
    for (float& value : x) value = activate(a.activation, value) * a.scale;
    apply_dropout(a.dropout, static_cast<uint64_t>(row * a.columns + column), x);
    if (a.residual) {
      float residual[kHalvesPerVector];
      load_values<BFloat16>(a.residual + at, residual);
#pragma unroll
      for (int i = 0; i < kHalvesPerVector; ++i) x[i] += a.residual_scale * residual[i];
    }
#pragma unroll
    for (int i = 0; i < kHalvesPerVector; ++i) x[i] = column + i < a.columns ? x[i] : 0.0f;
    store_values<BFloat16>(a.y + at, x);
  }
}

__device__ __forceinline__ float slope(Activation activation, float x) {
  if (activation == Activation::kSilu) return silu_slope(x);
  if (activation == Activation::kGelu) return gelu_slope(x);
  return activation == Activation::kRelu ? (x > 0.0f ? 1.0f : 0.0f) : 1.0f;
}

__global__ void __launch_bounds__(kFinishThreads) linear_gradient_kernel(const LinearFinishArguments a) {
  ptx::take_turn();
  const int thread = static_cast<int>(threadIdx.x), vector = thread % kVectors;
  const int column = static_cast<int>(blockIdx.x) * kColumns + vector * kHalvesPerVector;
  float totals[kHalvesPerVector] = {};
  for (int lane = thread / kVectors; lane < kRows; lane += kLanes) {
    const int64_t row = static_cast<int64_t>(blockIdx.y) * kRows + lane, at = row * a.stride + column;
    if (row >= a.rows || column >= a.columns) break;
    float value[kHalvesPerVector];
    load_values<BFloat16>(a.gradient + at, value);
#pragma unroll
    for (float& g : value) g *= a.scale;
    apply_dropout(a.dropout, static_cast<uint64_t>(row * a.columns + column), value);
    if (a.activation != Activation::kNone) {
      float x[kHalvesPerVector];
      load_biased_sums(a, at, column, x);
#pragma unroll
      for (int i = 0; i < kHalvesPerVector; ++i) value[i] *= slope(a.activation, x[i]);
    }
#pragma unroll
    for (int i = 0; i < kHalvesPerVector; ++i) {
      if (column + i >= a.columns) value[i] = 0.0f;
      totals[i] += value[i];
    }
    if (a.sum_gradient) store_values<BFloat16>(a.sum_gradient + at, value);
  }
  if (!a.bias_parts) return;
  auto* parts = reinterpret_cast<float*>(shared_memory());  // (kLanes, kColumns)
#pragma unroll
  for (int i = 0; i < kHalvesPerVector; ++i) parts[thread / kVectors * kColumns + vector * kHalvesPerVector + i] = totals[i];
  ptx::block_sync();
  const int own = static_cast<int>(blockIdx.x) * kColumns + thread;
  if (thread >= kColumns || own >= a.columns) return;
  float total = 0.0f;
  for (int lane = 0; lane < kLanes; ++lane) total += parts[lane * kColumns + thread];
  a.bias_parts[static_cast<int64_t>(blockIdx.y) * a.columns + own] = total;
}

__global__ void __launch_bounds__(kFinishThreads) add_parts_kernel(const float* parts, int count, int columns, float* sums) {
  ptx::take_turn();
  const int column = static_cast<int>(blockIdx.x) * kFinishThreads + static_cast<int>(threadIdx.x);
  if (column >= columns) return;
  float total = 0.0f;
  for (int part = 0; part < count; ++part) total += parts[static_cast<int64_t>(part) * columns + column];
  sums[column] = total;
}

LinearFinishArguments arguments_of(const LinearFinish& layer, const DeviceMatrix& like, const Stream& stream) {
  LinearFinishArguments a{};
  a.bias = layer.bias ? layer.bias->use_on<float>(stream) : nullptr;
  a.rows = like.rows(), a.stride = like.row_stride(), a.columns = static_cast<int>(like.columns());
  a.scale = layer.scale, a.activation = layer.activation, a.dropout = layer.dropout;
  return a;
}

LaunchShape shape_of(const LinearFinishArguments& a, size_t shared_bytes) {
  return {static_cast<unsigned>((a.columns + kColumns - 1) / kColumns), static_cast<unsigned>((a.rows + kRows - 1) / kRows), 1, kFinishThreads,
          shared_bytes, 1, kernels_take_turns()};
}

}  // namespace

void finish_linear(const LinearFinish& layer, const DeviceMatrix& sums, const DeviceMatrix* residual, float residual_scale, const DeviceMatrix& y,
                   const Stream& stream) {
  LinearFinishArguments a = arguments_of(layer, sums, stream);
  if (a.rows == 0 || a.columns == 0) return;
  a.sums = sums.use_on<uint16_t>(stream), a.y = y.use_on<uint16_t>(stream);
  a.residual = residual ? residual->use_on<uint16_t>(stream) : nullptr, a.residual_scale = residual_scale;
  launch(finish_kernel, shape_of(a, 0), stream.handle(), a);
}

int64_t linear_row_blocks(int64_t rows) { return (rows + kRows - 1) / kRows; }

void linear_gradient(const LinearFinish& layer, const DeviceMatrix& gradient, const DeviceMatrix* sums, const DeviceMatrix* sum_gradient,
                     const DeviceMatrix* bias_gradient, float* bias_parts, const Stream& stream) {
  LinearFinishArguments a = arguments_of(layer, gradient, stream);
  a.gradient = gradient.use_on<uint16_t>(stream), a.sums = sums ? sums->use_on<uint16_t>(stream) : nullptr;
  a.sum_gradient = sum_gradient ? sum_gradient->use_on<uint16_t>(stream) : nullptr;
  a.bias_parts = bias_parts;
  const LaunchShape shape = shape_of(a, bias_parts ? kLanes * kColumns * sizeof(float) : 0);
  launch(linear_gradient_kernel, shape, stream.handle(), a);
  if (!bias_gradient) return;
  launch(add_parts_kernel,
         LaunchShape{static_cast<unsigned>((a.columns + kFinishThreads - 1) / kFinishThreads), 1, 1, kFinishThreads, 0, 1, kernels_take_turns()},
         stream.handle(), bias_parts, static_cast<int>(shape.grid_y), a.columns, bias_gradient->use_on<float>(stream));
}

}  // namespace usmlite::cuda
