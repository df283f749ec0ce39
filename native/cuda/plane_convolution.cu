#include "cuda/plane_convolution.hpp"

#include <algorithm>

#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {
namespace {

// A block makes an output frame. A thread keeps the kernels of 8 channels in registers and goes through the features with them.
constexpr int kPlaneThreads = 256, kPlaneChannels = 8, kTaps = kPlaneKernel * kPlaneKernel;

struct PlaneArguments {
  const uint16_t* x;
  uint16_t* y;
  const float *weight, *bias;
  const int32_t *offsets, *output_offsets;
  int64_t x_stride, y_stride, weight_stride;
  int chunks, chunk_threads;  // of 8 channels: all, and those that threads take at once
  int features, output_features, stride, padding;
  bool relu;
};

template <typename T>
__device__ __forceinline__ void add_tap(float (&sums)[kPlaneChannels], const float (&weight)[kPlaneChannels][kTaps], int tap, uint4 values) {
  const uint32_t pairs[4] = {values.x, values.y, values.z, values.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 v = ptx::floats2<T>(pairs[i]);
    sums[2 * i] += weight[2 * i][tap] * v.x;
    sums[2 * i + 1] += weight[2 * i + 1][tap] * v.y;
  }
}

template <typename T, bool kDepthwise> __global__ void __launch_bounds__(kPlaneThreads) plane_kernel(const PlaneArguments a) {
  ptx::take_turn();
  const int64_t row = a.output_offsets[blockIdx.y] + static_cast<int64_t>(blockIdx.x);
  if (row >= a.output_offsets[blockIdx.y + 1]) return;
  const int begin = a.offsets[blockIdx.y], end = a.offsets[blockIdx.y + 1];
  const int first_frame = begin + static_cast<int>(blockIdx.x) * a.stride - a.padding;
  const int thread = static_cast<int>(threadIdx.x), lanes = kPlaneThreads / a.chunk_threads;
  if (thread >= lanes * a.chunk_threads) return;
  for (int chunk = thread % a.chunk_threads; chunk < a.chunks; chunk += a.chunk_threads) {
    float weight[kPlaneChannels][kTaps];
#pragma unroll
    for (int c = 0; c < kPlaneChannels; ++c) {
#pragma unroll
      for (int tap = 0; tap < kTaps; ++tap) weight[c][tap] = a.weight[(kPlaneChannels * chunk + c) * a.weight_stride + tap];
    }
    for (int feature = thread / a.chunk_threads; feature < a.output_features; feature += lanes) {
      float sums[kPlaneChannels];
#pragma unroll
      for (int c = 0; c < kPlaneChannels; ++c) sums[c] = a.bias[kPlaneChannels * chunk + c];
#pragma unroll
      for (int tap = 0; tap < kTaps; ++tap) {
        const int frame = first_frame + tap / kPlaneKernel, from = feature * a.stride - a.padding + tap % kPlaneKernel;
        if (frame < begin || frame >= end || from < 0 || from >= a.features) continue;
        const uint16_t* values = a.x + frame * a.x_stride;
        if constexpr (kDepthwise) {
          add_tap<T>(sums, weight, tap, reinterpret_cast<const uint4*>(values)[from * a.chunks + chunk]);
        } else {
          const float value = ptx::to_float<T>(values[from]);
#pragma unroll
          for (int c = 0; c < kPlaneChannels; ++c) sums[c] += weight[c][tap] * value;
        }
      }
      if (a.relu) {
#pragma unroll
        for (int c = 0; c < kPlaneChannels; ++c) sums[c] = sums[c] < 0.0f ? 0.0f : sums[c];  // NaN stays
      }
      reinterpret_cast<uint4*>(a.y + row * a.y_stride)[feature * a.chunks + chunk] =
          uint4{ptx::round2<T>(sums[0], sums[1]), ptx::round2<T>(sums[2], sums[3]), ptx::round2<T>(sums[4], sums[5]),
                ptx::round2<T>(sums[6], sums[7])};
    }
  }
}

template <typename T> auto kernel_for(bool depthwise) { return depthwise ? plane_kernel<T, true> : plane_kernel<T, false>; }

}  // namespace

void plane_convolution(const PlaneConvolutionArguments& a, const PackedSequences& sequences, const PackedSequences& outputs,
                       const DeviceMatrix& y, const Stream& stream) {
  if (y.is_empty()) return;
  const int chunks = static_cast<int>(a.weight->rows()) / kPlaneChannels;
  const PlaneArguments arguments{a.x->use_on<uint16_t>(stream), y.use_on<uint16_t>(stream), a.weight->use_on<float>(stream),
                                  a.bias->use_on<float>(stream), sequences.offsets, outputs.offsets, a.x->row_stride(), y.row_stride(),
                                  a.weight->row_stride(), chunks, std::min(chunks, kPlaneThreads), a.features, a.output_features, a.stride,
                                  a.padding, a.relu};
  const LaunchShape shape{static_cast<unsigned>(outputs.longest), static_cast<unsigned>(outputs.count), 1, kPlaneThreads, 0, 1, kernels_take_turns()};
  launch(y.type() == DeviceType::kBFloat16 ? kernel_for<BFloat16>(a.depthwise) : kernel_for<Float16>(a.depthwise), shape,
         stream.handle(), arguments);
}

}  // namespace usmlite::cuda
