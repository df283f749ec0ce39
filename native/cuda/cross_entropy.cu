#include "cuda/cross_entropy.hpp"

#include "cuda/block_reduction.cuh"
#include "cuda/launch.hpp"
#include "cuda/natural_logarithm.cuh"
#include "cuda/row_values.cuh"

namespace usmlite::cuda {
namespace {

// A block takes a row, whose vocabulary may be long: it is read twice, a third time for the gradient.
constexpr int kWarps = 8, kCrossEntropyThreads = 32 * kWarps, kStep = kCrossEntropyThreads * kHalvesPerVector;
constexpr float kLowest = -3.402823466e38f;

struct KernelArguments {
  const uint16_t* logits;
  uint16_t* gradient;
  int64_t stride;
  const int32_t* labels;
  float* losses;
  int columns;
  float smoothing, factor;
};

__global__ void __launch_bounds__(kCrossEntropyThreads) cross_entropy_kernel(const KernelArguments a) {
  ptx::take_turn();
  const int64_t row = blockIdx.x;
  const int label = a.labels[row], first = static_cast<int>(threadIdx.x) * kHalvesPerVector;
  const bool counts = label < a.columns;
  const uint16_t* x = a.logits + row * a.stride;
  auto* of_warps = reinterpret_cast<float*>(shared_memory());
  float largest = kLowest, total = 1.0f;
  if (counts) {
    float values[kHalvesPerVector];
    for (int column = first; column < a.columns; column += kStep) {
      load_values<BFloat16>(x + column, values);
#pragma unroll
      for (int i = 0; i < kHalvesPerVector; ++i) largest = fmaxf(largest, column + i < a.columns ? values[i] : kLowest);
    }
    largest = block_reduce<kWarps>(largest, of_warps, Larger{});
    float sums[2] = {0.0f, 0.0f};  // of exp(x - largest), and of x - largest
    for (int column = first; column < a.columns; column += kStep) {
      load_values<BFloat16>(x + column, values);
#pragma unroll
      for (int i = 0; i < kHalvesPerVector; ++i) {
        if (column + i >= a.columns) continue;
        sums[0] += exponential(values[i] - largest);
        sums[1] += values[i] - largest;
      }
    }
    block_sums<kWarps>(sums, of_warps + kWarps);
    total = sums[0] + 0.0f * sums[1];  // infinity makes NaN
    if (threadIdx.x == 0) {
      const float of_label = ptx::to_float<BFloat16>(x[label]) - largest;
      a.losses[row] = logarithm(total) - (1.0f - a.smoothing) * of_label - a.smoothing / static_cast<float>(a.columns) * sums[1];
    }
  } else if (threadIdx.x == 0) {
    a.losses[row] = 0.0f;
  }
  if (!a.gradient) return;
  const float reciprocal = 1.0f / total, spread = a.smoothing / static_cast<float>(a.columns);
  for (int column = first; column < a.columns; column += kStep) {
    float values[kHalvesPerVector] = {};
    if (counts) load_values<BFloat16>(x + column, values);
#pragma unroll
    for (int i = 0; i < kHalvesPerVector; ++i) {
      const float wanted = spread + (column + i == label ? 1.0f - a.smoothing : 0.0f);
      const float slope = exponential(values[i] - largest) * reciprocal - wanted;
      values[i] = counts && column + i < a.columns ? slope * a.factor : 0.0f;
    }
    store_values<BFloat16>(a.gradient + row * a.stride + column, values);
  }
}

}  // namespace

void cross_entropy(const CrossEntropyArguments& a, const Stream& stream) {
  if (a.logits->rows() == 0) return;
  uint16_t* gradient = a.gradient ? a.gradient->use_on<uint16_t>(stream) : nullptr;
  const KernelArguments arguments{a.logits->use_on<uint16_t>(stream), gradient, a.logits->row_stride(), a.labels.rows,
                                  a.losses->use_on<float>(stream), static_cast<int>(a.logits->columns()), a.smoothing, a.factor};
  const auto rows = static_cast<unsigned>(a.logits->rows());
  launch(cross_entropy_kernel, LaunchShape{rows, 1, 1, kCrossEntropyThreads, 3 * kWarps * sizeof(float), 1, kernels_take_turns()},
         stream.handle(), arguments);
}

}  // namespace usmlite::cuda
