#include "cuda/gated_linear_unit.hpp"

#include "cuda/launch.hpp"
#include "cuda/matmul_epilogue.cuh"
#include "cuda/row_values.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kGluThreads = 128;  // a block takes a frame

struct GatedArguments {
  const uint16_t *x, *gradient;
  uint16_t *y, *gradient_x;
  int64_t x_stride, y_stride;
  int channels;
};

// A thread takes kCount channels: 8 where gates begin at multiples of 16 bytes, else 1.
template <typename T, int kCount> __global__ void __launch_bounds__(kGluThreads) gated_kernel(const GatedArguments a) {
  ptx::take_turn();
  const int64_t from = blockIdx.x * a.x_stride, to = blockIdx.x * a.y_stride;
  for (int channel = static_cast<int>(threadIdx.x) * kCount; channel < a.channels; channel += kGluThreads * kCount) {
    float value[kCount], gate[kCount];
    load_values<T>(a.x + from + channel, value);
    load_values<T>(a.x + from + a.channels + channel, gate);
#pragma unroll
    for (int i = 0; i < kCount; ++i) value[i] *= sigmoid(gate[i]);
    store_values<T>(a.y + to + channel, value);
  }
}

template <typename T, int kCount> __global__ void __launch_bounds__(kGluThreads) gated_backward_kernel(const GatedArguments a) {
  ptx::take_turn();
  const int64_t at = blockIdx.x * a.x_stride;
  for (int channel = static_cast<int>(threadIdx.x) * kCount; channel < a.channels; channel += kGluThreads * kCount) {
    float value[kCount], gate[kCount], gradient[kCount];
    load_values<T>(a.x + at + channel, value);
    load_values<T>(a.x + at + a.channels + channel, gate);
    load_values<T>(a.gradient + blockIdx.x * a.y_stride + channel, gradient);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float s = sigmoid(gate[i]);
      gate[i] = gradient[i] * s * value[i] * (1.0f - s);
      value[i] = gradient[i] * s;
    }
    store_values<T>(a.gradient_x + at + channel, value);
    store_values<T>(a.gradient_x + at + a.channels + channel, gate);
  }
}

template <typename T> auto forward_for(bool aligned) { return aligned ? gated_kernel<T, kHalvesPerVector> : gated_kernel<T, 1>; }
template <typename T> auto backward_for(bool aligned) {
  return aligned ? gated_backward_kernel<T, kHalvesPerVector> : gated_backward_kernel<T, 1>;
}

LaunchShape block_per_frame(const DeviceMatrix& x) {
  return {static_cast<unsigned>(x.rows()), 1, 1, kGluThreads, 0, 1, kernels_take_turns()};
}

}  // namespace

void gated_linear_unit(const DeviceMatrix& x, const DeviceMatrix& y, const Stream& stream) {
  if (x.is_empty()) return;
  const bool aligned = y.columns() % kHalvesPerVector == 0;
  const GatedArguments arguments{x.use_on<uint16_t>(stream), nullptr, y.use_on<uint16_t>(stream), nullptr, x.row_stride(), y.row_stride(),
                                 static_cast<int>(y.columns())};
  launch(x.type() == DeviceType::kBFloat16 ? forward_for<BFloat16>(aligned) : forward_for<Float16>(aligned), block_per_frame(x),
         stream.handle(), arguments);
}

void gated_linear_unit_backward(const DeviceMatrix& x, const DeviceMatrix& gradient, const DeviceMatrix& gradient_x,
                                const Stream& stream) {
  if (x.is_empty()) return;
  const bool aligned = gradient.columns() % kHalvesPerVector == 0;
  const GatedArguments arguments{x.use_on<uint16_t>(stream), gradient.use_on<uint16_t>(stream), nullptr, gradient_x.use_on<uint16_t>(stream),
                                 x.row_stride(), gradient.row_stride(), static_cast<int>(gradient.columns())};
  launch(x.type() == DeviceType::kBFloat16 ? backward_for<BFloat16>(aligned) : backward_for<Float16>(aligned), block_per_frame(x),
         stream.handle(), arguments);
}

}  // namespace usmlite::cuda
