#include <algorithm>

#include "cuda/depthwise_convolution.hpp"
#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"
#include "cuda/scratch_matrix.hpp"
#include "cuda/sum_parts.hpp"

namespace usmlite::cuda {
namespace {

// A block has kGradientChannels channels, two a lane, and a share of all frames, which it goes through kFrames at a time. A warp sums
// kTaps taps over some of those frames; several warps have the same taps of other frames where kernels are short.
constexpr int kGradientChannels = 64, kPairs = kGradientChannels / 2, kFrames = 64;
constexpr int kGradientWarps = 8, kGradientThreads = 32 * kGradientWarps, kTaps = 16, kGradientStep = 8;

struct WeightGradientArguments {
  const uint16_t *x, *gradient;
  const int32_t* offsets;
  float* partial;  // (parts, kernel + 1, channel_width): taps, then the bias
  int64_t x_stride, gradient_stride, partial_stride, channel_width;
  int sequences, frames_per_block, channels, kernel, left, tap_groups;
};

// Shared memory: x (kFrames + kTaps * tap_groups - 1, kPairs) and gradients (kFrames, kPairs), pairs of 16-bit floats; at the end
// sums (kGradientWarps, kTaps + 1, kGradientChannels) float32.
__global__ void __launch_bounds__(kGradientThreads) weight_gradient_kernel(const WeightGradientArguments a) {
  ptx::take_turn();
  const int lane = ptx::lane_id(), warp = ptx::warp_id(), thread = static_cast<int>(threadIdx.x);
  const int channel = static_cast<int>(blockIdx.x) * kGradientChannels;
  const int group = warp % a.tap_groups, phase = warp / a.tap_groups, phase_frames = kFrames / (kGradientWarps / a.tap_groups);
  const int rows = kFrames + kTaps * a.tap_groups - 1;
  auto* gradients = reinterpret_cast<uint32_t*>(shared_memory());
  uint32_t* frames = gradients + kFrames * kPairs;

  const int begin = static_cast<int>(blockIdx.y) * a.frames_per_block;
  const int end = min(begin + a.frames_per_block, a.offsets[a.sequences]);
  int sequence = 0;
  for (int after = a.sequences; after - sequence > 1;) {  // the last sequence that begins at `begin` or before it
    const int middle = (sequence + after) / 2;
    if (a.offsets[middle] <= begin) sequence = middle;
    else after = middle;
  }
  float2 sums[kTaps], bias = {0.0f, 0.0f};
#pragma unroll
  for (float2& sum : sums) sum = {0.0f, 0.0f};
  for (int from = begin; from < end;) {
    while (a.offsets[sequence + 1] <= from) ++sequence;
    const int sequence_begin = a.offsets[sequence], sequence_end = a.offsets[sequence + 1];
    const int to = min(min(end, sequence_end), from + kFrames);
    for (int i = thread; i < (kFrames + rows) * kPairs; i += kGradientThreads) {
      const int row = i / kPairs, at = channel + 2 * (i % kPairs);
      uint32_t pair = 0;
      if (row < kFrames) {
        if (from + row < to && at < a.channels) pair = *reinterpret_cast<const uint32_t*>(a.gradient + (from + row) * a.gradient_stride + at);
      } else {
        const int frame = from - a.left + row - kFrames;
        if (frame >= sequence_begin && frame < sequence_end && at < a.channels) {
          pair = *reinterpret_cast<const uint32_t*>(a.x + frame * a.x_stride + at);
        }
      }
      gradients[i] = pair;  // x lies behind
    }
    ptx::block_sync();
    for (int frame = phase * phase_frames; frame < (phase + 1) * phase_frames && from + frame < to; frame += kGradientStep) {
      float2 gradient[kGradientStep];
#pragma unroll
      for (int f = 0; f < kGradientStep; ++f) {
        gradient[f] = ptx::floats2<BFloat16>(gradients[(frame + f) * kPairs + lane]);
        if (group == 0) bias.x += gradient[f].x, bias.y += gradient[f].y;
      }
      const uint32_t* window = frames + (frame + group * kTaps) * kPairs + lane;
#pragma unroll
      for (int place = 0; place < kGradientStep + kTaps - 1; ++place) {
        const float2 x = ptx::floats2<BFloat16>(window[place * kPairs]);
#pragma unroll
        for (int f = 0; f < kGradientStep; ++f) {
          const int tap = place - f;
          if (tap < 0 || tap >= kTaps) continue;
          sums[tap].x += gradient[f].x * x.x;
          sums[tap].y += gradient[f].y * x.y;
        }
      }
    }
    ptx::block_sync();
    from = to;
  }

  auto* of_warps = reinterpret_cast<float2*>(shared_memory());  // (kGradientWarps, kTaps + 1, kPairs)
#pragma unroll
  for (int tap = 0; tap < kTaps; ++tap) of_warps[(warp * (kTaps + 1) + tap) * kPairs + lane] = sums[tap];
  of_warps[(warp * (kTaps + 1) + kTaps) * kPairs + lane] = bias;
  ptx::block_sync();
  for (int i = thread; i < (a.kernel + 1) * kPairs; i += kGradientThreads) {
    const int tap = i / kPairs, pair = i % kPairs, at = channel + 2 * pair;
    const int of_group = tap == a.kernel ? 0 : tap / kTaps, in_group = tap == a.kernel ? kTaps : tap % kTaps;
    float2 sum = {0.0f, 0.0f};
    for (int w = of_group; w < kGradientWarps; w += a.tap_groups) {
      const float2 v = of_warps[(w * (kTaps + 1) + in_group) * kPairs + pair];
      sum.x += v.x, sum.y += v.y;
    }
    *reinterpret_cast<float2*>(a.partial + blockIdx.y * a.partial_stride + tap * a.channel_width + at) = sum;
  }
}

}  // namespace

void depthwise_convolution_weight_gradient(const DeviceMatrix& x, const DeviceMatrix& gradient, int kernel, int left,
                                           const PackedSequences& sequences, const DeviceMatrix* gradient_weight,
                                           const DeviceMatrix* gradient_bias, const Stream& stream) {
  int tap_groups = 1;
  while (tap_groups * kTaps < kernel) tap_groups *= 2;
  const int64_t channels = x.columns(), blocks = (channels + kGradientChannels - 1) / kGradientChannels, width = blocks * kGradientChannels;
  const int64_t parts = parts_of(x.rows(), kFrames, blocks), per_block = (x.rows() + parts - 1) / parts;
  const ScratchMatrix partial(DeviceType::kFloat32, parts, (kernel + 1) * width, stream);
  const WeightGradientArguments arguments{x.use_on<uint16_t>(stream), gradient.use_on<uint16_t>(stream), sequences.offsets,
                                          partial.use_on<float>(stream), x.row_stride(), gradient.row_stride(), partial.row_stride(), width,
                                          sequences.count, static_cast<int>(per_block), static_cast<int>(channels), kernel, left, tap_groups};
  const size_t tiles = static_cast<size_t>(2 * kFrames + kTaps * tap_groups - 1) * kPairs * sizeof(uint32_t);
  const size_t of_warps = static_cast<size_t>(kGradientWarps * (kTaps + 1) * kGradientChannels) * sizeof(float);
  launch(weight_gradient_kernel,
         LaunchShape{static_cast<unsigned>(blocks), static_cast<unsigned>(parts), 1, kGradientThreads, std::max(tiles, of_warps), 1,
                     kernels_take_turns()},
         stream.handle(), arguments);
  if (gradient_weight) {
    sum_parts(partial, {0, kernel * width, gradient_weight->use_on<float>(stream), width, channels, gradient_weight->row_stride()}, stream);
  }
  if (gradient_bias) sum_parts(partial, PartSums::vector(kernel * width, channels, gradient_bias->use_on<float>(stream)), stream);
}

}  // namespace usmlite::cuda
