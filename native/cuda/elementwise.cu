#include "cuda/elementwise.hpp"

#include "cuda/launch.hpp"
#include "cuda/row_values.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kElementThreads = 256;  // of scaled_sum a thread takes 16 bytes, of the others one element

// What lies between rows is zero and stays so.
template <typename T, typename Bits>
__global__ void __launch_bounds__(kElementThreads) scaled_sum_kernel(const Bits* x, float a, const Bits* y, float b, Bits* sum, int64_t count) {
  ptx::take_turn();
  constexpr int kCount = 16 / sizeof(Bits);
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kElementThreads + threadIdx.x) * kCount;
  if (at >= count) return;
  float first[kCount], second[kCount];
  load_values<T>(x + at, first);
  load_values<T>(y + at, second);
#pragma unroll
  for (int i = 0; i < kCount; ++i) first[i] = a * first[i] + b * second[i];
  store_values<T>(sum + at, first);
}

// What lies between rows stays zero here too.
__global__ void __launch_bounds__(kElementThreads) multiply_kernel(const float* x, const float* y, float* product, int64_t count) {
  ptx::take_turn();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kElementThreads + threadIdx.x;
  if (i < count) product[i] = x[i] * y[i];
}

__global__ void __launch_bounds__(kElementThreads) raise_kernel(float* x, float least, int64_t rows, int64_t columns, int64_t stride) {
  ptx::take_turn();
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kElementThreads + threadIdx.x, row = index / columns;
  if (row >= rows) return;
  float& value = x[row * stride + index % columns];
  value = value < least ? least : value;  // NaN stays
}

LaunchShape element_shape(int64_t threads) {
  return {static_cast<unsigned>((threads + kElementThreads - 1) / kElementThreads), 1, 1, kElementThreads, 0, 1, kernels_take_turns()};
}

template <typename T, typename Bits>
void launch_scaled_sum(const DeviceMatrix& x, float a, const DeviceMatrix& y, float b, const DeviceMatrix& sum, const Stream& stream) {
  const int64_t count = x.rows() * x.row_stride(), vectors = count * static_cast<int64_t>(sizeof(Bits)) / 16;
  launch(scaled_sum_kernel<T, Bits>, element_shape(vectors), stream.handle(), x.use_on<Bits>(stream), a, y.use_on<Bits>(stream), b,
         sum.use_on<Bits>(stream), count);
}

}  // namespace

void scaled_sum(const DeviceMatrix& x, float a, const DeviceMatrix& y, float b, const DeviceMatrix& sum,
                const Stream& stream) {
  if (x.is_empty()) return;
  switch (x.type()) {
    case DeviceType::kFloat32: return launch_scaled_sum<float, float>(x, a, y, b, sum, stream);
    case DeviceType::kBFloat16: return launch_scaled_sum<BFloat16, uint16_t>(x, a, y, b, sum, stream);
    default: return launch_scaled_sum<Float16, uint16_t>(x, a, y, b, sum, stream);
  }
}

void multiply(const DeviceMatrix& x, const DeviceMatrix& y, const DeviceMatrix& product, const Stream& stream) {
  const int64_t count = x.rows() * x.row_stride();
  if (count == 0) return;
  launch(multiply_kernel, element_shape(count), stream.handle(), x.use_on<float>(stream), y.use_on<float>(stream), product.use_on<float>(stream),
         count);
}

void raise_to(const DeviceMatrix& x, float least, const Stream& stream) {
  const int64_t rows = x.rows(), columns = x.columns();
  if (rows * columns == 0) return;
  launch(raise_kernel, element_shape(rows * columns), stream.handle(), x.use_on<float>(stream), least, rows, columns, x.row_stride());
}

}  // namespace usmlite::cuda
