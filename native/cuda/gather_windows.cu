#include "cuda/gather_windows.hpp"

#include "cuda/launch.hpp"
#include "cuda/row_values.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kWindowThreads = 128;  // a block copies a window, 16 bytes a thread and step

__global__ void __launch_bounds__(kWindowThreads) gather_windows_kernel(const uint16_t* x, int64_t x_stride, const int32_t* offsets,
                                                                  int chunks_per_frame, int stride, int left_padding,
                                                                  const int32_t* output_offsets, uint16_t* y, int64_t y_stride,
                                                                  int chunks) {
  ptx::take_turn();
  const int64_t row = output_offsets[blockIdx.y] + static_cast<int64_t>(blockIdx.x);
  if (row >= output_offsets[blockIdx.y + 1]) return;
  const int64_t begin = offsets[blockIdx.y], end = offsets[blockIdx.y + 1];
  const int64_t first = begin + static_cast<int64_t>(blockIdx.x) * stride - left_padding;
  for (int i = static_cast<int>(threadIdx.x); i < chunks; i += kWindowThreads) {
    const int64_t frame = first + i / chunks_per_frame;
    const bool inside = frame >= begin && frame < end;
    reinterpret_cast<uint4*>(y + row * y_stride)[i] =
        inside ? reinterpret_cast<const uint4*>(x + frame * x_stride)[i % chunks_per_frame] : uint4{};
  }
}

// A thread rounds 8 samples of a window.
__global__ void __launch_bounds__(kWindowThreads) sample_windows_kernel(const float* x, const int32_t* offsets, int kernel, int stride,
                                                                  const int32_t* output_offsets, uint16_t* y, int64_t y_stride) {
  ptx::take_turn();
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWindowThreads + threadIdx.x, vectors = y_stride / kHalvesPerVector;
  const int64_t window = index / vectors, row = output_offsets[blockIdx.y] + window;
  if (row >= output_offsets[blockIdx.y + 1]) return;
  const int first = static_cast<int>(index % vectors) * kHalvesPerVector;
  const int64_t begin = offsets[blockIdx.y] + window * stride;
  // Windows lie within their sequence, unless one of the two was refilled without the other.
  const int there = static_cast<int>(min(static_cast<int64_t>(kernel), offsets[blockIdx.y + 1] - begin));
  const float* samples = x + begin;
  float values[kHalvesPerVector];
#pragma unroll
  for (int i = 0; i < kHalvesPerVector; ++i) values[i] = first + i < there ? samples[first + i] : 0.0f;
  store_values<BFloat16>(y + row * y_stride + first, values);
}

// A block takes a frame of a sequence of x, a thread 8 channels of it.
__global__ void __launch_bounds__(kWindowThreads)
    gather_windows_backward_kernel(const uint16_t* gradient, int64_t gradient_stride, const int32_t* output_offsets, int stride, int left_padding,
                                   int kernel, const int32_t* offsets, uint16_t* x, int64_t x_stride, int channels) {
  ptx::take_turn();
  const int frame = static_cast<int>(blockIdx.x), row = offsets[blockIdx.y] + frame;
  if (row >= offsets[blockIdx.y + 1]) return;
  const int windows_begin = output_offsets[blockIdx.y], windows = output_offsets[blockIdx.y + 1] - windows_begin;
  const int place = frame + left_padding;  // of the frame in the first window, if that were long enough
  const int first = max(0, (place - kernel) / stride + (place >= kernel ? 1 : 0)), last = min(place / stride, windows - 1);
  for (int channel = static_cast<int>(threadIdx.x) * kHalvesPerVector; channel < channels; channel += kWindowThreads * kHalvesPerVector) {
    float sums[kHalvesPerVector] = {};
    for (int window = first; window <= last; ++window) {
      float part[kHalvesPerVector];
      load_values<BFloat16>(gradient + (windows_begin + window) * gradient_stride + int64_t{place - window * stride} * channels + channel, part);
#pragma unroll
      for (int i = 0; i < kHalvesPerVector; ++i) sums[i] += part[i];
    }
    store_values<BFloat16>(x + row * x_stride + channel, sums);
  }
}

}  // namespace

void gather_windows_backward(const DeviceMatrix& gradient, const PackedSequences& sequences, int stride, int left_padding,
                             const PackedSequences& outputs, const DeviceMatrix& gradient_x, const Stream& stream) {
  if (gradient_x.rows() == 0) return;
  launch(gather_windows_backward_kernel,
         LaunchShape{static_cast<unsigned>(sequences.longest), static_cast<unsigned>(sequences.count), 1, kWindowThreads, 0, 1, kernels_take_turns()},
         stream.handle(), gradient.use_on<uint16_t>(stream), gradient.row_stride(), outputs.offsets, stride, left_padding,
         static_cast<int>(gradient.columns() / gradient_x.columns()), sequences.offsets, gradient_x.use_on<uint16_t>(stream),
         gradient_x.row_stride(), static_cast<int>(gradient_x.columns()));
}

void gather_windows(const DeviceMatrix& x, const PackedSequences& sequences, int stride, int left_padding, const PackedSequences& outputs,
                    const DeviceMatrix& y, const Stream& stream) {
  if (y.rows() == 0) return;
  launch(gather_windows_kernel,
         LaunchShape{static_cast<unsigned>(outputs.longest), static_cast<unsigned>(outputs.count), 1, kWindowThreads, 0, 1, kernels_take_turns()},
         stream.handle(), x.use_on<uint16_t>(stream), x.row_stride(), sequences.offsets, static_cast<int>(x.columns() / 8), stride, left_padding,
         outputs.offsets, y.use_on<uint16_t>(stream), y.row_stride(), static_cast<int>(y.columns() / 8));
}

void sample_windows(const DeviceMatrix& x, const PackedSequences& sequences, int kernel, int stride, const PackedSequences& outputs,
                    const DeviceMatrix& y, const Stream& stream) {
  if (y.rows() == 0) return;
  const int64_t vectors = outputs.longest * (y.row_stride() / kHalvesPerVector);
  launch(sample_windows_kernel,
         LaunchShape{static_cast<unsigned>((vectors + kWindowThreads - 1) / kWindowThreads), static_cast<unsigned>(outputs.count), 1, kWindowThreads,
                     0, 1, kernels_take_turns()},
         stream.handle(), x.use_on<float>(stream), sequences.offsets, kernel, stride, outputs.offsets, y.use_on<uint16_t>(stream), y.row_stride());
}

}  // namespace usmlite::cuda
