#include "cuda/elementwise.hpp"

#include "cuda/launch.hpp"
#include "cuda/row_values.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kThreads = 256;  // a thread takes 16 bytes

// What lies between rows is zero and stays so.
template <typename T, typename Bits>
__global__ void __launch_bounds__(kThreads) scaled_sum_kernel(const Bits* x, float a, const Bits* y, float b, Bits* sum, int64_t count) {
  ptx::take_turn();
  constexpr int kCount = 16 / sizeof(Bits);
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kCount;
  if (at >= count) return;
  float first[kCount], second[kCount];
  load_values<T>(x + at, first);
  load_values<T>(y + at, second);
#pragma unroll
  for (int i = 0; i < kCount; ++i) first[i] = a * first[i] + b * second[i];
  store_values<T>(sum + at, first);
}

template <typename T, typename Bits>
void launch_scaled_sum(const DeviceTensor& x, float a, const DeviceTensor& y, float b, const DeviceTensor& sum, const std::shared_ptr<Stream>& stream) {
  const int64_t count = x.rows() * x.row_stride(), vectors = count * static_cast<int64_t>(sizeof(Bits)) / 16;
  launch(scaled_sum_kernel<T, Bits>,
         LaunchShape{static_cast<unsigned>((vectors + kThreads - 1) / kThreads), 1, 1, kThreads, 0, 1, kernels_take_turns()}, stream->handle(),
         x.use_on<Bits>(stream), a, y.use_on<Bits>(stream), b, sum.use_on<Bits>(stream), count);
}

}  // namespace

void scaled_sum(const DeviceTensor& x, float a, const DeviceTensor& y, float b, const DeviceTensor& sum,
                const std::shared_ptr<Stream>& stream) {
  if (x.rows() * x.columns() == 0) return;
  switch (x.type()) {
    case DeviceType::kFloat32: return launch_scaled_sum<float, float>(x, a, y, b, sum, stream);
    case DeviceType::kBFloat16: return launch_scaled_sum<BFloat16, uint16_t>(x, a, y, b, sum, stream);
    default: return launch_scaled_sum<Float16, uint16_t>(x, a, y, b, sum, stream);
  }
}

}  // namespace usmlite::cuda
