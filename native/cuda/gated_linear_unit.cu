#include "cuda/gated_linear_unit.hpp"

#include "cuda/launch.hpp"
#include "cuda/matmul_epilogue.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kThreads = 128;  // a block takes a frame

template <typename T>
__global__ void __launch_bounds__(kThreads) gated_linear_unit_kernel(const uint16_t* x, int64_t x_stride, uint16_t* y, int64_t y_stride,
                                                                     int channels) {
  ptx::take_turn();
  const uint16_t* row = x + blockIdx.x * x_stride;
  for (int channel = static_cast<int>(threadIdx.x); channel < channels; channel += kThreads) {
    const float value = ptx::to_float<T>(row[channel]), gate = ptx::to_float<T>(row[channels + channel]);
    y[blockIdx.x * y_stride + channel] = ptx::from_float<T>(value * sigmoid(gate));
  }
}

}  // namespace

void gated_linear_unit(const DeviceTensor& x, const DeviceTensor& y, const std::shared_ptr<Stream>& stream) {
  if (x.rows() == 0) return;
  launch(x.type() == DeviceType::kBFloat16 ? gated_linear_unit_kernel<BFloat16> : gated_linear_unit_kernel<Float16>,
         LaunchShape{static_cast<unsigned>(x.rows()), 1, 1, kThreads, 0, 1, kernels_take_turns()}, stream->handle(), x.use_on<uint16_t>(stream),
         x.row_stride(), y.use_on<uint16_t>(stream), y.row_stride(), static_cast<int>(y.columns()));
}

}  // namespace usmlite::cuda
