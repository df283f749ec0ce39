#include <algorithm>

#include "cuda/block_reduction.cuh"
#include "cuda/launch.hpp"
#include "cuda/plane_convolution.hpp"
#include "cuda/scratch_matrix.hpp"
#include "cuda/sum_parts.hpp"

namespace usmlite::cuda {
namespace {

// A thread has 8 channels, whose values lie together.
constexpr int kPlaneBackwardThreads = 256, kPlaneBackwardWarps = kPlaneBackwardThreads / 32, kPlaneBackwardChannels = 8;
constexpr int kTaps = kPlaneKernel * kPlaneKernel;

struct PlaneBackwardArguments {
  const uint16_t *x, *y, *gradient;  // y null without relu
  uint16_t* gradient_x;
  float* partial;  // (blocks, (kTaps + 1) * channels): taps, then the bias
  const float* weight;
  const int32_t *offsets, *output_offsets;
  int64_t x_stride, y_stride, weight_stride, gradient_x_stride, partial_stride;
  int chunks, chunk_threads;  // of 8 channels: all, and those that threads take at once
  int features, output_features, stride, padding;
};

__device__ __forceinline__ void to_floats(float (&values)[kPlaneBackwardChannels], const uint16_t* from) {
  const uint4 eight = *reinterpret_cast<const uint4*>(from);
  const uint32_t pairs[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 v = ptx::floats2<BFloat16>(pairs[i]);
    values[2 * i] = v.x, values[2 * i + 1] = v.y;
  }
}

/// The gradients of 8 channels of an output, where relu let values through.
__device__ __forceinline__ void passed_gradient(float (&values)[kPlaneBackwardChannels], const PlaneBackwardArguments& a, int64_t row, int feature,
                                                int chunk) {
  const int64_t at = row * a.y_stride + (feature * a.chunks + chunk) * kPlaneBackwardChannels;
  to_floats(values, a.gradient + at);
  if (!a.y) return;
  float y[kPlaneBackwardChannels];
  to_floats(y, a.y + at);
#pragma unroll
  for (int c = 0; c < kPlaneBackwardChannels; ++c) values[c] = y[c] > 0.0f ? values[c] : 0.0f;
}

/// The output along an axis that sees `input` with tap `tap`, or -1.
__device__ __forceinline__ int output_of(const PlaneBackwardArguments& a, int input, int tap, int outputs) {
  const int shifted = input + a.padding - tap, output = shifted / a.stride;
  return shifted >= 0 && output * a.stride == shifted && output < outputs ? output : -1;
}

// A block takes every so many output frames of a sequence; threads that share channels have different features.
template <bool kDepthwise> __global__ void __launch_bounds__(kPlaneBackwardThreads) plane_weight_gradient_kernel(const PlaneBackwardArguments a) {
  ptx::take_turn();
  const int begin = a.offsets[blockIdx.y], end = a.offsets[blockIdx.y + 1];
  const int output_begin = a.output_offsets[blockIdx.y], outputs = a.output_offsets[blockIdx.y + 1] - output_begin;
  const int thread = static_cast<int>(threadIdx.x), lanes = kPlaneBackwardThreads / a.chunk_threads, lane = thread / a.chunk_threads;
  auto* shared = reinterpret_cast<float*>(shared_memory());  // (threads, kPlaneBackwardChannels)
  float* partial = a.partial + (blockIdx.y * static_cast<int64_t>(gridDim.x) + blockIdx.x) * a.partial_stride;
  for (int first = 0; first < a.chunks; first += a.chunk_threads) {
    const int chunk = first + thread % a.chunk_threads;
    float sums[kTaps + 1][kPlaneBackwardChannels] = {};
    for (int t = static_cast<int>(blockIdx.x); chunk < a.chunks && lane < lanes && t < outputs; t += static_cast<int>(gridDim.x)) {
      for (int feature = lane; feature < a.output_features; feature += lanes) {
        float gradient[kPlaneBackwardChannels];
        passed_gradient(gradient, a, output_begin + t, feature, chunk);
#pragma unroll
        for (int c = 0; c < kPlaneBackwardChannels; ++c) sums[kTaps][c] += gradient[c];
#pragma unroll
        for (int tap = 0; tap < kTaps; ++tap) {
          const int frame = begin + t * a.stride - a.padding + tap / kPlaneKernel, from = feature * a.stride - a.padding + tap % kPlaneKernel;
          if (frame < begin || frame >= end || from < 0 || from >= a.features) continue;
          const uint16_t* values = a.x + frame * a.x_stride;
          if constexpr (kDepthwise) {
            float x[kPlaneBackwardChannels];
            to_floats(x, values + (from * a.chunks + chunk) * kPlaneBackwardChannels);
#pragma unroll
            for (int c = 0; c < kPlaneBackwardChannels; ++c) sums[tap][c] += gradient[c] * x[c];
          } else {
            const float x = ptx::to_float<BFloat16>(values[from]);
#pragma unroll
            for (int c = 0; c < kPlaneBackwardChannels; ++c) sums[tap][c] += gradient[c] * x;
          }
        }
      }
    }
#pragma unroll
    for (int tap = 0; tap <= kTaps; ++tap) {
#pragma unroll
      for (int c = 0; c < kPlaneBackwardChannels; ++c) shared[thread * kPlaneBackwardChannels + c] = sums[tap][c];
      ptx::block_sync();
      for (int i = thread; i < min(a.chunk_threads, a.chunks - first) * kPlaneBackwardChannels; i += kPlaneBackwardThreads) {
        float sum = 0.0f;
        for (int l = 0; l < lanes; ++l) sum += shared[l * a.chunk_threads * kPlaneBackwardChannels + i];
        partial[(tap * a.chunks + first) * kPlaneBackwardChannels + i] = sum;
      }
      ptx::block_sync();
    }
  }
}

// A block makes an input frame, as that of the forward pass makes an output frame.
__global__ void __launch_bounds__(kPlaneBackwardThreads) plane_input_gradient_kernel(const PlaneBackwardArguments a) {
  ptx::take_turn();
  const int begin = a.offsets[blockIdx.y], frame = static_cast<int>(blockIdx.x);
  if (frame >= a.offsets[blockIdx.y + 1] - begin) return;
  const int output_begin = a.output_offsets[blockIdx.y], outputs = a.output_offsets[blockIdx.y + 1] - output_begin;
  const int thread = static_cast<int>(threadIdx.x), lanes = kPlaneBackwardThreads / a.chunk_threads;
  if (thread >= lanes * a.chunk_threads) return;
  for (int chunk = thread % a.chunk_threads; chunk < a.chunks; chunk += a.chunk_threads) {
    float weight[kTaps][kPlaneBackwardChannels];
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) {
#pragma unroll
      for (int c = 0; c < kPlaneBackwardChannels; ++c) weight[tap][c] = a.weight[(kPlaneBackwardChannels * chunk + c) * a.weight_stride + tap];
    }
    for (int feature = thread / a.chunk_threads; feature < a.features; feature += lanes) {
      float sums[kPlaneBackwardChannels] = {};
#pragma unroll
      for (int tap = 0; tap < kTaps; ++tap) {
        const int t = output_of(a, frame, tap / kPlaneKernel, outputs), f = output_of(a, feature, tap % kPlaneKernel, a.output_features);
        if (t < 0 || f < 0) continue;
        float gradient[kPlaneBackwardChannels];
        passed_gradient(gradient, a, output_begin + t, f, chunk);
#pragma unroll
        for (int c = 0; c < kPlaneBackwardChannels; ++c) sums[c] += weight[tap][c] * gradient[c];
      }
      reinterpret_cast<uint4*>(a.gradient_x + (begin + frame) * a.gradient_x_stride)[feature * a.chunks + chunk] =
          uint4{ptx::round2<BFloat16>(sums[0], sums[1]), ptx::round2<BFloat16>(sums[2], sums[3]), ptx::round2<BFloat16>(sums[4], sums[5]),
                ptx::round2<BFloat16>(sums[6], sums[7])};
    }
  }
}

// Of the one plane that all channels see: a warp makes an input, its lanes share the channels.
__global__ void __launch_bounds__(kPlaneBackwardThreads) plane_shared_input_gradient_kernel(const PlaneBackwardArguments a) {
  ptx::take_turn();
  const int begin = a.offsets[blockIdx.y], frame = static_cast<int>(blockIdx.x);
  if (frame >= a.offsets[blockIdx.y + 1] - begin) return;
  const int output_begin = a.output_offsets[blockIdx.y], outputs = a.output_offsets[blockIdx.y + 1] - output_begin;
  for (int feature = ptx::warp_id(); feature < a.features; feature += kPlaneBackwardWarps) {
    float sum = 0.0f;
    for (int tap = 0; tap < kTaps; ++tap) {
      const int t = output_of(a, frame, tap / kPlaneKernel, outputs), f = output_of(a, feature, tap % kPlaneKernel, a.output_features);
      if (t < 0 || f < 0) continue;
      for (int chunk = ptx::lane_id(); chunk < a.chunks; chunk += 32) {
        float gradient[kPlaneBackwardChannels];
        passed_gradient(gradient, a, output_begin + t, f, chunk);
#pragma unroll
        for (int c = 0; c < kPlaneBackwardChannels; ++c) sum += a.weight[(kPlaneBackwardChannels * chunk + c) * a.weight_stride + tap] * gradient[c];
      }
    }
    sum = warp_reduce(sum, Sum{});
    if (ptx::lane_id() == 0) a.gradient_x[(begin + frame) * a.gradient_x_stride + feature] = ptx::from_float<BFloat16>(sum);
  }
}

}  // namespace

void plane_convolution_backward(const PlaneConvolutionBackwardArguments& b, const PackedSequences& sequences, const PackedSequences& outputs,
                                const Stream& stream) {
  const PlaneConvolutionArguments& a = b.convolution;
  const auto bits = [&](const DeviceMatrix* tensor) { return tensor ? tensor->use_on<uint16_t>(stream) : nullptr; };
  const int64_t channels = a.weight->rows();
  const int chunks = static_cast<int>(channels) / kPlaneBackwardChannels;
  PlaneBackwardArguments arguments{.x = bits(a.x),
                            .y = a.relu ? bits(b.y) : nullptr,
                            .gradient = bits(b.gradient),
                            .gradient_x = bits(b.gradient_x),
                            .weight = a.weight->use_on<float>(stream),
                            .offsets = sequences.offsets,
                            .output_offsets = outputs.offsets,
                            .x_stride = a.x->row_stride(),
                            .y_stride = b.gradient->row_stride(),
                            .weight_stride = a.weight->row_stride(),
                            .gradient_x_stride = b.gradient_x ? b.gradient_x->row_stride() : 0,
                            .chunks = chunks,
                            .chunk_threads = std::min(chunks, kPlaneBackwardThreads),
                            .features = a.features,
                            .output_features = a.output_features,
                            .stride = a.stride,
                            .padding = a.padding};
  const auto shape = [&](int64_t frames, size_t shared_bytes) {
    return LaunchShape{static_cast<unsigned>(frames), static_cast<unsigned>(sequences.count), 1, kPlaneBackwardThreads, shared_bytes, 1,
                       kernels_take_turns()};
  };
  if (b.gradient_x && sequences.longest > 0) {
    launch(a.depthwise ? plane_input_gradient_kernel : plane_shared_input_gradient_kernel, shape(sequences.longest, 0), stream.handle(), arguments);
  }
  if (!b.gradient_weight && !b.gradient_bias) return;
  const int64_t parts = parts_of(std::max(outputs.longest, 1), 2, sequences.count);
  const ScratchMatrix partial(DeviceType::kFloat32, parts * sequences.count, (kTaps + 1) * channels, stream);
  arguments.partial = partial.use_on<float>(stream), arguments.partial_stride = partial.row_stride();
  if (sequences.count > 0) {
    launch(a.depthwise ? plane_weight_gradient_kernel<true> : plane_weight_gradient_kernel<false>,
           shape(parts, kPlaneBackwardThreads * kPlaneBackwardChannels * sizeof(float)), stream.handle(), arguments);
  }
  if (b.gradient_weight) {
    sum_parts(partial, {0, kTaps * channels, b.gradient_weight->use_on<float>(stream), channels, channels, b.gradient_weight->row_stride()}, stream);
  }
  if (b.gradient_bias) sum_parts(partial, PartSums::vector(kTaps * channels, channels, b.gradient_bias->use_on<float>(stream)), stream);
}

}  // namespace usmlite::cuda
