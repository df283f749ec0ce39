#include "cuda/batch_norm.hpp"

#include "cuda/channel_sums.cuh"
#include "cuda/launch.hpp"
#include "cuda/scratch_matrix.hpp"
#include "cuda/slopes.cuh"
#include "cuda/sum_parts.hpp"

namespace usmlite::cuda {
namespace {

using namespace channel_sums;

struct Frames {
  const uint16_t *x, *gradient;
  int64_t count, stride;
  int channels;
};
struct Normalization {
  const float *weight, *bias, *mean, *reciprocal_deviation;  // (channels)
  bool silu;
};
/// Of 8 channels.
struct ChannelValues {
  float mean[kVector], factor[kVector], weight[kVector], bias[kVector];

  __device__ __forceinline__ void load(const Normalization& n, int channel, int channels) {
    load_parameters(n.mean, channel, channels, 0.0f, mean);
    load_parameters(n.reciprocal_deviation, channel, channels, 0.0f, factor);
    load_parameters(n.weight, channel, channels, 0.0f, weight);
    load_parameters(n.bias, channel, channels, 0.0f, bias);
  }
  __device__ __forceinline__ float normal(int i, float x) const { return (x - mean[i]) * factor[i]; }
};

// partial (parts, 2, width): with kBackward sums of the gradient before the activation and of that times the normalised value;
// else LaneSums::add_deviation from the first frame.
template <bool kBackward>
__global__ void __launch_bounds__(kThreads) sums_kernel(const Frames frames, const Normalization n, float* partial, int64_t partial_stride) {
  ptx::take_turn();
  const int lane = ptx::lane_id(), warp = ptx::warp_id(), channel = static_cast<int>(blockIdx.x) * kChannels + lane * kVector;
  LaneSums sums;
  if (channel < frames.channels) {
    ChannelValues values;
    float origin[kVector];
    if constexpr (kBackward) values.load(n, channel, frames.channels);
    else load_values<BFloat16>(frames.x + channel, origin);
    for (int64_t frame = static_cast<int64_t>(blockIdx.y) * kWarps + warp; frame < frames.count; frame += int64_t{gridDim.y} * kWarps) {
      float x[kVector];
      load_values<BFloat16>(frames.x + frame * frames.stride + channel, x);
      if constexpr (kBackward) {
        float gradient[kVector];
        load_values<BFloat16>(frames.gradient + frame * frames.stride + channel, gradient);
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
          const float normal = values.normal(i, x[i]);
          if (n.silu) gradient[i] *= silu_slope(normal * values.weight[i] + values.bias[i]);
          sums.first[i] += gradient[i];
          sums.second[i] += gradient[i] * normal;
        }
      } else {
        sums.add_deviation(x, origin);
      }
    }
  }
  sums.store(partial + blockIdx.y * partial_stride, reinterpret_cast<float*>(shared_memory()), lane, warp);
}

struct StatisticsArguments {
  const uint16_t* x;    // the first frame
  const float* sums;    // (2, width), when training
  float *running_mean, *running_variance, *mean, *reciprocal_deviation;
  int64_t frames, width;
  int channels;
  float epsilon, momentum;
  bool training;
};

__global__ void __launch_bounds__(kThreads) statistics_kernel(const StatisticsArguments a) {
  ptx::take_turn();
  const int channel = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (channel >= a.channels) return;
  float mean = a.running_mean[channel], variance = a.running_variance[channel];
  if (a.training) {
    const float count = static_cast<float>(a.frames), shift = a.sums[channel] / count;
    const float squares = fmaxf(a.sums[a.width + channel] - count * shift * shift, 0.0f);
    const float batch_mean = ptx::to_float<BFloat16>(a.x[channel]) + shift;
    a.running_mean[channel] = (1.0f - a.momentum) * mean + a.momentum * batch_mean;
    a.running_variance[channel] = (1.0f - a.momentum) * variance + a.momentum * squares / (count - 1.0f);
    mean = batch_mean, variance = squares / count;
  }
  a.mean[channel] = mean;
  a.reciprocal_deviation[channel] = ptx::reciprocal_square_root(variance + a.epsilon);
}

// A thread takes 16 bytes of a frame. Forward: y; with kBackward, weight r (g - mean(g) - normal mean(g normal)) of the gradient g
// before the activation, whose sums the first pass made.
template <bool kBackward>
__global__ void __launch_bounds__(kThreads) apply_kernel(const Frames frames, const Normalization n, const float* gradient_sums,
                                                         const float* product_sums, float share, uint16_t* to) {
  ptx::take_turn();
  const uint32_t vector = blockIdx.x * kThreads + threadIdx.x, per_frame = static_cast<uint32_t>(frames.stride / kVector);
  if (vector >= frames.count * per_frame) return;
  const int channel = static_cast<int>(vector % per_frame) * kVector;
  const int64_t at = static_cast<int64_t>(vector) * kVector;
  ChannelValues values;
  values.load(n, channel, frames.channels);
  float x[kVector];
  load_values<BFloat16>(frames.x + at, x);
  if constexpr (kBackward) {
    float gradient[kVector], sums[kVector], products[kVector];
    load_values<BFloat16>(frames.gradient + at, gradient);
    load_parameters(gradient_sums, channel, frames.channels, 0.0f, sums);
    load_parameters(product_sums, channel, frames.channels, 0.0f, products);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float normal = values.normal(i, x[i]);
      if (n.silu) gradient[i] *= silu_slope(normal * values.weight[i] + values.bias[i]);
      x[i] = values.weight[i] * values.factor[i] * (gradient[i] - share * (sums[i] + normal * products[i]));
    }
  } else {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float z = values.normal(i, x[i]) * values.weight[i] + values.bias[i];
      x[i] = n.silu ? z * sigmoid(z) : z;
    }
  }
  store_values<BFloat16>(to + at, x);  // factors, weights and biases behind the last channel are zero
}

template <bool kBackward>
ScratchMatrix sums_over_frames(const Frames& frames, const Normalization& n, int64_t& width, const Stream& stream) {
  const int64_t blocks = (frames.channels + kChannels - 1) / kChannels, parts = parts_of(frames.count, 4 * kWarps, blocks);
  width = blocks * kChannels;
  ScratchMatrix partial(DeviceType::kFloat32, parts, 2 * width, stream);
  launch(sums_kernel<kBackward>,
         LaunchShape{static_cast<unsigned>(blocks), static_cast<unsigned>(parts), 1, kThreads, kSharedBytes, 1,
                     kernels_take_turns()},
         stream.handle(), frames, n, partial.use_on<float>(stream), partial.row_stride());
  return partial;
}

LaunchShape apply_shape(const Frames& frames) {
  const int64_t vectors = frames.count * frames.stride / kVector;
  return {static_cast<unsigned>((vectors + kThreads - 1) / kThreads), 1, 1, kThreads, 0, 1, kernels_take_turns()};
}

Frames frames_of(const DeviceMatrix& x, const DeviceMatrix* gradient, const Stream& stream) {
  return {x.use_on<uint16_t>(stream), gradient ? gradient->use_on<uint16_t>(stream) : nullptr, x.rows(), x.row_stride(),
          static_cast<int>(x.columns())};
}

template <typename Arguments> Normalization normalization_of(const Arguments& a, const Stream& stream) {
  return {a.weight->template use_on<float>(stream), a.bias->template use_on<float>(stream), a.mean->template use_on<float>(stream),
          a.reciprocal_deviation->template use_on<float>(stream), a.silu};
}

}  // namespace

void batch_norm(const BatchNormArguments& a, const Stream& stream) {
  const Frames frames = frames_of(*a.x, nullptr, stream);
  const Normalization n = normalization_of(a, stream);
  ScratchMatrix sums;
  int64_t width = 0;
  if (a.training) {
    const ScratchMatrix partial = sums_over_frames<false>(frames, n, width, stream);
    sums = ScratchMatrix(DeviceType::kFloat32, 1, 2 * width, stream);
    sum_parts(partial, PartSums::vector(0, 2 * width, sums.use_on<float>(stream)), stream);
  }
  const StatisticsArguments statistics{frames.x, a.training ? sums.use_on<float>(stream) : nullptr, a.running_mean->use_on<float>(stream),
                                       a.running_variance->use_on<float>(stream), a.mean->use_on<float>(stream),
                                       a.reciprocal_deviation->use_on<float>(stream), frames.count, width, frames.channels, a.epsilon,
                                       a.momentum, a.training};
  launch(statistics_kernel,
         LaunchShape{static_cast<unsigned>((frames.channels + kThreads - 1) / kThreads), 1, 1, kThreads, 0, 1, kernels_take_turns()},
         stream.handle(), statistics);
  if (frames.count == 0) return;
  launch(apply_kernel<false>, apply_shape(frames), stream.handle(), frames, n,
         nullptr, nullptr, 0.0f, a.y->use_on<uint16_t>(stream));
}

void batch_norm_backward(const BatchNormBackwardArguments& a, const Stream& stream) {
  const Frames frames = frames_of(*a.x, a.gradient, stream);
  const Normalization n = normalization_of(a, stream);
  float* weight = a.gradient_weight->use_on<float>(stream);
  float* bias = a.gradient_bias->use_on<float>(stream);
  int64_t width = 0;
  const ScratchMatrix partial = sums_over_frames<true>(frames, n, width, stream);
  sum_parts(partial, PartSums::vector(0, frames.channels, bias), stream);
  sum_parts(partial, PartSums::vector(width, frames.channels, weight), stream);
  if (frames.count == 0) return;
  const float share = a.training ? 1.0f / static_cast<float>(frames.count) : 0.0f;
  launch(apply_kernel<true>, apply_shape(frames),
         stream.handle(), frames, n, bias, weight, share, a.gradient_x->use_on<uint16_t>(stream));
}

}  // namespace usmlite::cuda
