#include "cuda/gather_windows.hpp"

#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kThreads = 128;  // a block copies a window, 16 bytes a thread and step

__global__ void __launch_bounds__(kThreads) gather_windows_kernel(const uint16_t* x, int64_t x_stride, const int32_t* offsets,
                                                                  int chunks_per_frame, int stride, const int32_t* output_offsets,
                                                                  uint16_t* y, int64_t y_stride, int chunks) {
  ptx::take_turn();
  const int64_t row = output_offsets[blockIdx.y] + static_cast<int64_t>(blockIdx.x);
  if (row >= output_offsets[blockIdx.y + 1]) return;
  const int64_t first = offsets[blockIdx.y] + static_cast<int64_t>(blockIdx.x) * stride;
  for (int i = static_cast<int>(threadIdx.x); i < chunks; i += kThreads) {
    const uint16_t* frame = x + (first + i / chunks_per_frame) * x_stride;
    reinterpret_cast<uint4*>(y + row * y_stride)[i] = reinterpret_cast<const uint4*>(frame)[i % chunks_per_frame];
  }
}

}  // namespace

void gather_windows(const DeviceTensor& x, const PackedSequences& sequences, int stride, const PackedSequences& outputs,
                    const DeviceTensor& y, const std::shared_ptr<Stream>& stream) {
  if (y.rows() == 0) return;
  launch(gather_windows_kernel,
         LaunchShape{static_cast<unsigned>(outputs.longest), static_cast<unsigned>(outputs.count), 1, kThreads, 0, 1, kernels_take_turns()}, stream->handle(),
         x.use_on<uint16_t>(stream), x.row_stride(), sequences.offsets, static_cast<int>(x.columns() / 8), stride, outputs.offsets,
         y.use_on<uint16_t>(stream), y.row_stride(), static_cast<int>(y.columns() / 8));
}

}  // namespace usmlite::cuda
