#include "cuda/swap_column_axes.hpp"

#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kSwapThreads = 256;  // a block takes a row, which the first-level cache holds: reads are scattered, writes are not

__global__ void __launch_bounds__(kSwapThreads) swap_kernel(const uint16_t* x, int64_t x_stride, int outer, int inner, uint16_t* y,
                                                        int64_t y_stride) {
  ptx::take_turn();
  const uint16_t* from = x + blockIdx.x * x_stride;
  uint16_t* to = y + blockIdx.x * y_stride;
  for (int i = static_cast<int>(threadIdx.x); i < outer * inner; i += kSwapThreads) to[i] = from[i % outer * inner + i / outer];
}

}  // namespace

void swap_column_axes(const DeviceMatrix& x, int outer, const DeviceMatrix& y, const Stream& stream) {
  if (x.rows() == 0) return;
  launch(swap_kernel, LaunchShape{static_cast<unsigned>(x.rows()), 1, 1, kSwapThreads, 0, 1, kernels_take_turns()}, stream.handle(),
         x.use_on<uint16_t>(stream), x.row_stride(), outer, static_cast<int>(x.columns()) / outer, y.use_on<uint16_t>(stream), y.row_stride());
}

}  // namespace usmlite::cuda
