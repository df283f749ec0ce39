#include "cuda/optimizer.hpp"

#include "cuda/block_reduction.cuh"
#include "cuda/row_values.cuh"
#include "cuda/scratch_matrix.hpp"
#include "cuda/tensor_list.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kOptimizerThreads = 256;
constexpr int kBlockElements = 2048;          // of a pass over parameters
constexpr int kBlockElementsOfSums = 16384;   // of a sum of squares

struct Updated {
  float *value, *first, *second;
  const float* gradient;
  int64_t count;
  float kept, learning_rate;  // kept: 1 - learning rate * weight decay
};

struct AdamWArguments {
  float beta1, beta2, epsilon, inverse1, inverse2, gradient_scale;
};

// What lies between rows is zero everywhere and stays so.
__global__ void __launch_bounds__(kOptimizerThreads) adamw_kernel(const __grid_constant__ TensorList<Updated> list, const AdamWArguments a) {
  ptx::take_turn();
  const ListedPart part = part_of_block<kBlockElements>(list);
  const Updated& p = list.items[part.item];
  constexpr int kCount = kFloatsPerVector;
  for (int64_t i = part.begin + threadIdx.x * kCount; i < part.end; i += kOptimizerThreads * kCount) {
    float value[kCount], gradient[kCount], first[kCount], second[kCount];
    load_values<float>(p.value + i, value);
    load_values<float>(p.gradient + i, gradient);
    load_values<float>(p.first + i, first);
    load_values<float>(p.second + i, second);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const float g = a.gradient_scale * gradient[k];
      first[k] = a.beta1 * first[k] + (1.0f - a.beta1) * g;
      second[k] = a.beta2 * second[k] + (1.0f - a.beta2) * g * g;
      value[k] = value[k] * p.kept - p.learning_rate * (first[k] * a.inverse1 / (sqrtf(second[k] * a.inverse2) + a.epsilon));
    }
    store_values<float>(p.first + i, first);
    store_values<float>(p.second + i, second);
    store_values<float>(p.value + i, value);
  }
}

struct Squared {
  const float* values;
  int64_t count;
};

__global__ void __launch_bounds__(kOptimizerThreads) squares_kernel(const __grid_constant__ TensorList<Squared> list, double* sums) {
  ptx::take_turn();
  const ListedPart part = part_of_block<kBlockElementsOfSums>(list);
  const float* values = list.items[part.item].values;
  float sum = 0.0f;
  for (int64_t i = part.begin + threadIdx.x; i < part.end; i += kOptimizerThreads) sum += values[i] * values[i];
  auto* of_warps = reinterpret_cast<double*>(shared_memory());
  const double total = block_reduce<kOptimizerThreads / 32>(static_cast<double>(sum), of_warps, Sum{});
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

struct Averaged {
  float* average;
  const float* value;
  int64_t count;
};

__global__ void __launch_bounds__(kOptimizerThreads) average_kernel(const __grid_constant__ TensorList<Averaged> list, float decay) {
  ptx::take_turn();
  const ListedPart part = part_of_block<kBlockElements>(list);
  const Averaged& p = list.items[part.item];
  constexpr int kCount = kFloatsPerVector;
  for (int64_t i = part.begin + threadIdx.x * kCount; i < part.end; i += kOptimizerThreads * kCount) {
    float average[kCount], value[kCount];
    load_values<float>(p.average + i, average);
    load_values<float>(p.value + i, value);
#pragma unroll
    for (int k = 0; k < kCount; ++k) average[k] = decay * average[k] + (1.0f - decay) * value[k];
    store_values<float>(p.average + i, average);
  }
}

int64_t elements(const DeviceMatrix& tensor) { return tensor.rows() * tensor.row_stride(); }

LaunchShape optimizer_shape(unsigned blocks, size_t shared_bytes = 0) {
  return {blocks, 1, 1, kOptimizerThreads, shared_bytes, 1, kernels_take_turns()};
}

}  // namespace

void adamw(std::span<const DeviceAdamWParameter> parameters, const cpu::AdamWStep& step, const Stream& stream) {
  std::vector<Updated> items;
  for (const DeviceAdamWParameter& p : parameters) {
    items.push_back({p.value.use_on<float>(stream), p.first_moment.use_on<float>(stream), p.second_moment.use_on<float>(stream),
                     p.gradient.use_on<float>(stream), elements(p.value), 1.0f - p.learning_rate * p.weight_decay, p.learning_rate});
  }
  const AdamWArguments arguments{step.beta1,         step.beta2, step.epsilon, 1.0f / step.first_correction, 1.0f / step.second_correction,
                                 step.gradient_scale};
  launch_over<kBlockElements>(std::span<const Updated>(items), [&](const TensorList<Updated>& list, unsigned blocks, int64_t) {
    launch(adamw_kernel, optimizer_shape(blocks), stream.handle(), list, arguments);
  });
}

double sum_of_squares(std::span<const DeviceMatrix* const> tensors, const Stream& stream) {
  std::vector<Squared> items;
  int64_t blocks_of_all = 0;
  for (const DeviceMatrix* tensor : tensors) {
    const int64_t count = elements(*tensor);
    items.push_back({tensor->use_on<float>(stream), count});
    blocks_of_all += (count + kBlockElementsOfSums - 1) / kBlockElementsOfSums;
  }
  if (blocks_of_all == 0) return 0.0;
  std::vector<double> sums(static_cast<size_t>(blocks_of_all));
  const size_t bytes = sums.size() * sizeof(double);
  const ScratchMatrix of_blocks = ScratchMatrix::of_doubles(blocks_of_all, stream);
  auto* found = of_blocks.use_on<double>(stream);
  launch_over<kBlockElementsOfSums>(std::span<const Squared>(items), [&](const TensorList<Squared>& list, unsigned blocks, int64_t before) {
    launch(squares_kernel, optimizer_shape(blocks, kOptimizerThreads / 32 * sizeof(double)), stream.handle(), list, found + before);
  });
  driver::copy_to_host(sums.data(), bytes, found, bytes, bytes, 1, stream.handle());
  double total = 0.0;
  for (const double sum : sums) total += sum;
  return total;
}

void update_averages(std::span<const DeviceAveraged> averaged, float decay, const Stream& stream) {
  std::vector<Averaged> items;
  for (const DeviceAveraged& a : averaged) items.push_back({a.average.use_on<float>(stream), a.value.use_on<float>(stream), elements(a.value)});
  launch_over<kBlockElements>(std::span<const Averaged>(items), [&](const TensorList<Averaged>& list, unsigned blocks, int64_t) {
    launch(average_kernel, optimizer_shape(blocks), stream.handle(), list, decay);
  });
}

}  // namespace usmlite::cuda
