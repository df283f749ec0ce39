#include "cuda/optimizer.hpp"

#include "cuda/block_reduction.cuh"
#include "cuda/launch.hpp"

namespace usmlite::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlockElements = 16384;  // of a sum of squares

struct AdamWArguments {
  float *value, *first, *second;
  const float* gradient;
  int64_t count;
  float kept, learning_rate;  // kept: 1 - learning rate * weight decay
  float beta1, beta2, epsilon, inverse1, inverse2, gradient_scale;
};

// What lies between rows is zero everywhere and stays so.
__global__ void __launch_bounds__(kThreads) adamw_kernel(const AdamWArguments a) {
  ptx::take_turn();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= a.count) return;
  const float g = a.gradient_scale * a.gradient[i];
  const float first = a.beta1 * a.first[i] + (1.0f - a.beta1) * g;
  const float second = a.beta2 * a.second[i] + (1.0f - a.beta2) * g * g;
  a.first[i] = first, a.second[i] = second;
  a.value[i] = a.value[i] * a.kept - a.learning_rate * (first * a.inverse1 / (sqrtf(second * a.inverse2) + a.epsilon));
}

__global__ void __launch_bounds__(kThreads) squares_kernel(const float* values, int64_t count, double* parts) {
  ptx::take_turn();
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kBlockElements, end = min(begin + kBlockElements, count);
  float sum = 0.0f;
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) sum += values[i] * values[i];
  auto* of_warps = reinterpret_cast<double*>(shared_memory());
  const double total = block_reduce<kThreads / 32>(static_cast<double>(sum), of_warps, Sum{});
  if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

int64_t elements(const DeviceTensor& tensor) { return tensor.rows() * tensor.row_stride(); }

unsigned blocks_of(int64_t count, int64_t each) { return static_cast<unsigned>((count + each - 1) / each); }

}  // namespace

void adamw(const std::vector<DeviceAdamWParameter>& parameters, const cpu::AdamWStep& step, const std::shared_ptr<Stream>& stream) {
  for (const DeviceAdamWParameter& p : parameters) {
    const int64_t count = elements(p.value);
    if (count == 0) continue;
    const AdamWArguments arguments{p.value.use_on<float>(stream), p.first_moment.use_on<float>(stream), p.second_moment.use_on<float>(stream),
                                   p.gradient.use_on<float>(stream), count, 1.0f - p.learning_rate * p.weight_decay, p.learning_rate, step.beta1,
                                   step.beta2, step.epsilon, 1.0f / step.first_correction, 1.0f / step.second_correction, step.gradient_scale};
    launch(adamw_kernel, LaunchShape{blocks_of(count, kThreads), 1, 1, kThreads, 0, 1, kernels_take_turns()}, stream->handle(), arguments);
  }
}

int64_t square_blocks(const DeviceTensor& tensor) { return blocks_of(elements(tensor), kBlockElements); }

void sums_of_squares(const DeviceTensor& tensor, double* sums, const std::shared_ptr<Stream>& stream) {
  const int64_t count = elements(tensor);
  if (count == 0) return;
  const float* values = tensor.use_on<float>(stream);
  launch(squares_kernel, LaunchShape{blocks_of(count, kBlockElements), 1, 1, kThreads, kThreads / 32 * sizeof(double), 1, kernels_take_turns()},
         stream->handle(), values, count, sums);
}

}  // namespace usmlite::cuda
