#include "cuda/layer_norm_backward.hpp"

#include <algorithm>

#include "cuda/launch.hpp"
#include "cuda/row_values.cuh"
#include "cuda/scratch_matrix.hpp"
#include "cuda/sum_parts.hpp"

namespace usmlite::cuda {
namespace {

// A thread has 8 columns of kFramesAtOnce frames at a time; several groups of threads of a block take frames of their own. Sums over
// frames stay in registers until the end.
constexpr int kFrameVector = kHalvesPerVector, kFramesAtOnce = 2;
constexpr int kBackwardThreads = 256, kMostThreads = kWidestNormalizedFrame / kFrameVector;
constexpr int kMostWarps = kMostThreads / 32;

struct BackwardKernelArguments {
  const uint16_t *x, *gradient;
  uint16_t* gradient_x;
  const float* weight;
  float* partial;  // (blocks, 2, 8 * frame_threads): of weight and bias; null when neither is wanted
  int64_t frames, stride, partial_stride;
  int hidden, frame_threads;
  float epsilon;
  bool adds_to_x;
};

struct Shared {
  float sums[3][kMostWarps][2 * kFramesAtOnce];  // of warps; three, so that one synchronisation each is enough
};

/// Sums over the threads of a frame.
template <int kCount>
__device__ __forceinline__ void sum_over_frame(float (&values)[kCount], float (&of_warps)[kMostWarps][2 * kFramesAtOnce], int frame_warps) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
#pragma unroll
    for (float& v : values) v += ptx::shuffle_xor(v, distance);
  }
  if (frame_warps == 1) return;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (ptx::lane_id() == 0) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) of_warps[warp][i] = values[i];
  }
  ptx::block_sync();
  const int first = warp / frame_warps * frame_warps;
#pragma unroll
  for (int i = 0; i < kCount; ++i) values[i] = 0.0f;
  for (int other = first; other < first + frame_warps; ++other) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] += of_warps[other][i];
  }
}

// gradient of x = r (g w - mean(g w) - normal mean(g w normal)) with normal = (x - mean) r, r = 1 / sqrt(variance + epsilon)
__global__ void __launch_bounds__(kMostThreads) layer_norm_backward_kernel(const BackwardKernelArguments a) {
  ptx::take_turn();
  auto& shared = *reinterpret_cast<Shared*>(shared_memory());
  const int thread = static_cast<int>(threadIdx.x), group = thread / a.frame_threads, column = thread % a.frame_threads * kFrameVector;
  const int groups = static_cast<int>(blockDim.x) / a.frame_threads, frame_warps = a.frame_threads / 32;
  const float share = 1.0f / static_cast<float>(a.hidden);
  float weight[kFrameVector], weight_sums[kFrameVector] = {}, bias_sums[kFrameVector] = {};
  load_parameters(a.weight, column, a.hidden, 0.0f, weight);
  const int valid = min(a.hidden - column, kFrameVector);  // columns that are

  const int64_t step = static_cast<int64_t>(groups) * kFramesAtOnce;
  for (int64_t start = blockIdx.x * step; start < a.frames; start += gridDim.x * step) {
    const int64_t first = start + group * kFramesAtOnce;
    float x[kFramesAtOnce][kFrameVector] = {}, gradient[kFramesAtOnce][kFrameVector] = {};
#pragma unroll
    for (int f = 0; f < kFramesAtOnce; ++f) {
      if (first + f >= a.frames || valid <= 0) continue;
      load_values<BFloat16>(a.x + (first + f) * a.stride + column, x[f]);
      load_values<BFloat16>(a.gradient + (first + f) * a.stride + column, gradient[f]);
    }
    float means[kFramesAtOnce] = {}, factors[kFramesAtOnce] = {}, sums[2 * kFramesAtOnce] = {};
#pragma unroll
    for (int f = 0; f < kFramesAtOnce; ++f) {
#pragma unroll
      for (int i = 0; i < kFrameVector; ++i) means[f] += x[f][i];  // zeros lie behind the row
    }
    sum_over_frame(means, shared.sums[0], frame_warps);
#pragma unroll
    for (int f = 0; f < kFramesAtOnce; ++f) {
      means[f] *= share;
#pragma unroll
      for (int i = 0; i < kFrameVector; ++i) {
        x[f][i] = i < valid ? x[f][i] - means[f] : 0.0f;
        factors[f] += x[f][i] * x[f][i];
      }
    }
    sum_over_frame(factors, shared.sums[1], frame_warps);
#pragma unroll
    for (int f = 0; f < kFramesAtOnce; ++f) {
      factors[f] = ptx::reciprocal_square_root(factors[f] * share + a.epsilon);
#pragma unroll
      for (int i = 0; i < kFrameVector; ++i) {
        x[f][i] *= factors[f];
        weight_sums[i] += gradient[f][i] * x[f][i];
        bias_sums[i] += gradient[f][i];
        gradient[f][i] *= weight[i];
        sums[2 * f] += gradient[f][i];
        sums[2 * f + 1] += gradient[f][i] * x[f][i];
      }
    }
    if (!a.gradient_x) continue;
    sum_over_frame(sums, shared.sums[2], frame_warps);
#pragma unroll
    for (int f = 0; f < kFramesAtOnce; ++f) {
      if (first + f >= a.frames || valid <= 0) continue;
      uint16_t* const to = a.gradient_x + (first + f) * a.stride + column;
      float sum[kFrameVector] = {};
      if (a.adds_to_x) load_values<BFloat16>(to, sum);
#pragma unroll
      for (int i = 0; i < kFrameVector; ++i) {
        const float value = factors[f] * (gradient[f][i] - share * (sums[2 * f] + x[f][i] * sums[2 * f + 1]));
        sum[i] += i < valid ? value : 0.0f;
      }
      store_values<BFloat16>(to, sum);
    }
  }

  if (!a.partial) return;
  auto* of_groups = reinterpret_cast<float*>(&shared + 1);  // (groups, 2, 8 * frame_threads)
  const int width = a.frame_threads * kFrameVector;
#pragma unroll
  for (int i = 0; i < kFrameVector; ++i) {
    of_groups[group * 2 * width + column + i] = weight_sums[i];
    of_groups[(group * 2 + 1) * width + column + i] = bias_sums[i];
  }
  ptx::block_sync();
  for (int i = thread; i < 2 * width; i += static_cast<int>(blockDim.x)) {
    float sum = 0.0f;
    for (int other = 0; other < groups; ++other) sum += of_groups[other * 2 * width + i];
    a.partial[blockIdx.x * a.partial_stride + i] = sum;
  }
}

}  // namespace

void layer_norm_backward(const LayerNormBackwardArguments& a, const Stream& stream) {
  const int hidden = static_cast<int>(a.x->columns());
  const int frame_threads = (hidden + 32 * kFrameVector - 1) / (32 * kFrameVector) * 32, groups = std::max(1, kBackwardThreads / frame_threads);
  const bool wants_sums = a.gradient_weight || a.gradient_bias;
  const int64_t blocks = parts_of(a.x->rows(), groups * kFramesAtOnce, 1), width = int64_t{frame_threads} * kFrameVector;
  const ScratchMatrix partial(DeviceType::kFloat32, wants_sums ? blocks : 0, 2 * width, stream);
  const BackwardKernelArguments arguments{a.x->use_on<uint16_t>(stream), a.gradient->use_on<uint16_t>(stream),
                                  a.gradient_x ? a.gradient_x->use_on<uint16_t>(stream) : nullptr, a.weight->use_on<float>(stream),
                                  wants_sums ? partial.use_on<float>(stream) : nullptr, a.x->rows(), a.x->row_stride(), 2 * width, hidden,
                                  frame_threads, a.epsilon, a.adds_to_x};
  const size_t shared = sizeof(Shared) + static_cast<size_t>(groups) * 2 * width * sizeof(float);
  launch(layer_norm_backward_kernel,
         LaunchShape{static_cast<unsigned>(blocks), 1, 1, static_cast<unsigned>(groups * frame_threads), shared, 1, kernels_take_turns()},
         stream.handle(), arguments);
  if (a.gradient_weight) sum_parts(partial, PartSums::vector(0, hidden, a.gradient_weight->use_on<float>(stream)), stream);
  if (a.gradient_bias) sum_parts(partial, PartSums::vector(width, hidden, a.gradient_bias->use_on<float>(stream)), stream);
}

}  // namespace usmlite::cuda
