#include "cuda/weight_norm.hpp"

#include "cuda/block_reduction.cuh"
#include "cuda/launch.hpp"

namespace usmlite::cuda {
namespace {

constexpr int kTapWarps = 16, kTapThreads = 32 * kTapWarps;  // a block takes a tap

struct WeightNormArguments {
  const float *gain, *direction, *gradient;
  float *y, *gradient_gain;  // y: the weight, or the gradient of the direction
  int64_t stride;            // of direction, gradient and y
  int outputs, inputs;
};

template <bool kBackward> __global__ void __launch_bounds__(kTapThreads) weight_norm_kernel(const WeightNormArguments a) {
  ptx::take_turn();
  const int tap = static_cast<int>(blockIdx.x), count = a.outputs * a.inputs;
  const auto place = [&](int i) { return i / a.inputs * a.stride + static_cast<int64_t>(tap) * a.inputs + i % a.inputs; };
  float sums[2] = {0.0f, 0.0f};  // of direction², and of gradient * direction
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kTapThreads) {
    const int64_t at = place(i);
    const float d = a.direction[at];
    sums[0] += d * d;
    if (kBackward) sums[1] += a.gradient[at] * d;
  }
  block_sums<kTapWarps>(sums, reinterpret_cast<float*>(shared_memory()));
  const float length = sqrtf(sums[0]), factor = a.gain[tap] / length;
  // Of the gradient, the part along the direction changes the gain and the rest turns the direction.
  const float along = sums[1] / length;
  if (kBackward && threadIdx.x == 0) a.gradient_gain[tap] = along;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kTapThreads) {
    const int64_t at = place(i);
    a.y[at] = factor * (kBackward ? a.gradient[at] - along * a.direction[at] / length : a.direction[at]);
  }
}

template <bool kBackward>
void launch_weight_norm(WeightNormArguments a, const DeviceMatrix& gain, const DeviceMatrix& direction, const Stream& stream) {
  const auto taps = static_cast<unsigned>(gain.columns());
  a.gain = gain.use_on<float>(stream), a.direction = direction.use_on<float>(stream), a.stride = direction.row_stride();
  a.outputs = static_cast<int>(direction.rows()), a.inputs = static_cast<int>(direction.columns() / gain.columns());
  launch(weight_norm_kernel<kBackward>, LaunchShape{taps, 1, 1, kTapThreads, 2 * kTapWarps * sizeof(float), 1, kernels_take_turns()}, stream.handle(),
         a);
}

}  // namespace

void weight_norm(const DeviceMatrix& gain, const DeviceMatrix& direction, const DeviceMatrix& weight, const Stream& stream) {
  WeightNormArguments a{};
  a.y = weight.use_on<float>(stream);
  launch_weight_norm<false>(a, gain, direction, stream);
}

void weight_norm_backward(const DeviceMatrix& gain, const DeviceMatrix& direction, const DeviceMatrix& gradient, const DeviceMatrix& gradient_gain,
                          const DeviceMatrix& gradient_direction, const Stream& stream) {
  WeightNormArguments a{};
  a.gradient = gradient.use_on<float>(stream), a.gradient_gain = gradient_gain.use_on<float>(stream), a.y = gradient_direction.use_on<float>(stream);
  launch_weight_norm<true>(a, gain, direction, stream);
}

}  // namespace usmlite::cuda
