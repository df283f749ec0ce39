#include "cuda/depthwise_convolution.hpp"

#include "cuda/launch.hpp"
#include "cuda/matmul_epilogue.cuh"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {
namespace {

// A block makes kFrames frames of kBlockOfChannels channels of a sequence: a warp 16 frames of 64 channels, two a lane.
constexpr int kBlockOfChannels = 64, kFrames = 64, kFramesPerWarp = 16, kConvolutionThreads = 128;

struct DepthwiseArguments {
  const uint16_t* x;
  uint16_t* y;
  const float *weight, *bias;
  const int32_t* offsets;
  int64_t x_stride, y_stride, weight_stride;
  int channels, kernel, left;
  bool silu, reversed;
};

// Shared memory: x (kFrames + kernel - 1, kBlockOfChannels) 16-bit floats, then weights (kernel, kBlockOfChannels) float32.
// kGated: x has the gates of its values behind these, (frames, 2 channels); what is convolved is rounded, as a tensor between would be.
template <typename T, bool kGated> __global__ void __launch_bounds__(kConvolutionThreads) depthwise_kernel(const DepthwiseArguments a) {
  ptx::take_turn();
  const int begin = a.offsets[blockIdx.z], end = a.offsets[blockIdx.z + 1];
  const int first = begin + static_cast<int>(blockIdx.x) * kFrames;
  if (first >= end) return;
  const int channel = static_cast<int>(blockIdx.y) * kBlockOfChannels;
  const int rows = kFrames + a.kernel - 1;
  auto* frames = reinterpret_cast<uint32_t*>(shared_memory());  // (rows, kBlockOfChannels / 2) pairs
  auto* weights = reinterpret_cast<float*>(frames + rows * (kBlockOfChannels / 2));
  for (int i = static_cast<int>(threadIdx.x); i < rows * (kBlockOfChannels / 2); i += kConvolutionThreads) {
    const int frame = first - a.left + i / (kBlockOfChannels / 2), at = channel + 2 * (i % (kBlockOfChannels / 2));
    uint32_t pair = 0;
    if (frame >= begin && frame < end && at < a.channels) {
      const uint16_t* x = a.x + frame * a.x_stride + at;
      pair = *reinterpret_cast<const uint32_t*>(x);
      if constexpr (kGated) {
        const float2 value = ptx::floats2<T>(pair), gate = ptx::floats2<T>(*reinterpret_cast<const uint32_t*>(x + a.channels));
        pair = ptx::round2<T>(value.x * sigmoid(gate.x), value.y * sigmoid(gate.y));
      }
    }
    frames[i] = pair;
  }
  for (int i = static_cast<int>(threadIdx.x); i < a.kernel * kBlockOfChannels; i += kConvolutionThreads) {
    const int at = channel + i % kBlockOfChannels;
    const int tap = a.reversed ? a.kernel - 1 - i / kBlockOfChannels : i / kBlockOfChannels;
    weights[i] = at < a.channels ? a.weight[at * a.weight_stride + tap] : 0.0f;
  }
  ptx::block_sync();

  const int lane = ptx::lane_id(), mine = channel + 2 * lane;
  const int base = ptx::warp_id() * kFramesPerWarp;
  float2 sums[kFramesPerWarp];
#pragma unroll
  for (int f = 0; f < kFramesPerWarp; ++f) {
    sums[f].x = a.bias && mine < a.channels ? a.bias[mine] : 0.0f;
    sums[f].y = a.bias && mine + 1 < a.channels ? a.bias[mine + 1] : 0.0f;
  }
  for (int k = 0; k < a.kernel; ++k) {
    const float2 w = reinterpret_cast<const float2*>(weights)[k * (kBlockOfChannels / 2) + lane];
#pragma unroll
    for (int f = 0; f < kFramesPerWarp; ++f) {
      const float2 v = ptx::floats2<T>(frames[(base + f + k) * (kBlockOfChannels / 2) + lane]);
      sums[f].x += w.x * v.x;
      sums[f].y += w.y * v.y;
    }
  }
  if (mine >= a.channels) return;
#pragma unroll
  for (int f = 0; f < kFramesPerWarp; ++f) {
    const int frame = first + base + f;
    if (frame >= end) break;
    float2 v = sums[f];
    if (a.silu) v = {activate(Activation::kSilu, v.x), activate(Activation::kSilu, v.y)};
    // With an odd number of channels the second half goes to the gap between rows, which stays zero.
    *reinterpret_cast<uint32_t*>(a.y + frame * a.y_stride + mine) = ptx::round2<T>(v.x, mine + 1 < a.channels ? v.y : 0.0f);
  }
}

template <bool kGated>
void convolve(DepthwiseArguments arguments, const DeviceMatrix& x, const DeviceMatrix& weight, const PackedSequences& sequences,
              const DeviceMatrix& y, const Stream& stream) {
  if (x.rows() == 0) return;
  arguments.x = x.use_on<uint16_t>(stream), arguments.y = y.use_on<uint16_t>(stream), arguments.weight = weight.use_on<float>(stream);
  arguments.offsets = sequences.offsets;
  arguments.x_stride = x.row_stride(), arguments.y_stride = y.row_stride(), arguments.weight_stride = weight.row_stride();
  arguments.channels = static_cast<int>(y.columns()), arguments.kernel = static_cast<int>(weight.columns());
  const LaunchShape shape{
      static_cast<unsigned>((sequences.longest + kFrames - 1) / kFrames),
      static_cast<unsigned>((y.columns() + kBlockOfChannels - 1) / kBlockOfChannels), static_cast<unsigned>(sequences.count), kConvolutionThreads,
      static_cast<size_t>((kFrames + arguments.kernel - 1) * kBlockOfChannels * 2 + arguments.kernel * kBlockOfChannels * 4), 1, kernels_take_turns()};
  launch(x.type() == DeviceType::kBFloat16 ? depthwise_kernel<BFloat16, kGated> : depthwise_kernel<Float16, kGated>, shape, stream.handle(),
         arguments);
}

}  // namespace

void depthwise_convolution(const DeviceMatrix& x, const DeviceMatrix& weight, const DeviceMatrix* bias, int left, bool silu,
                           const PackedSequences& sequences, const DeviceMatrix& y, const Stream& stream) {
  const DepthwiseArguments arguments{.bias = bias ? bias->use_on<float>(stream) : nullptr, .left = left, .silu = silu};
  if (x.columns() == y.columns()) convolve<false>(arguments, x, weight, sequences, y, stream);
  else convolve<true>(arguments, x, weight, sequences, y, stream);
}

void depthwise_convolution_input_gradient(const DeviceMatrix& gradient, const DeviceMatrix& weight, int left, const PackedSequences& sequences,
                                          const DeviceMatrix& gradient_x, const Stream& stream) {
  const int kernel = static_cast<int>(weight.columns());
  convolve<false>({.left = kernel - 1 - left, .reversed = true}, gradient, weight, sequences, gradient_x, stream);
}

}  // namespace usmlite::cuda
