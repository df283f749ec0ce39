#include "cuda/fake_quantize.hpp"

#include "cuda/group_rounding.cuh"

namespace usmlite::cuda {
namespace {

using codec::Rounding;
using codec::ScaleStatistic;

struct RoundingBackwardArguments : RoundingArguments {
  float* output;  // the gradient of the weight
  const float *gradient, *found;
  float *scale_gradient, *zero_point_gradient;
  float scale_decay, levels_of_range;
  bool clipped, through_mask;
  ScaleStatistic statistic;  // kMaximum where a scale is no mean
};

__global__ void __launch_bounds__(kGroupThreads) fake_quantize_kernel(const RoundingArguments a, const RoundedWeights output) {
  ptx::take_turn();
  const ScaleGroup g = group_of(a);
  round_group(a, g, a.scale[g.scale_at], a.zero_point ? a.zero_point[g.scale_at] : 0.0f, output, shared_memory());
}

struct Least {
  __device__ __forceinline__ int operator()(int a, int b) const { return min(a, b); }
};

/// The first kept weight with the largest measure, or the number of weights where none is kept; every thread has it.
template <typename Measure> __device__ __forceinline__ int first_largest(const ScaleGroup& g, unsigned char* shared, Measure&& measure) {
  float largest = ptx::float_of(0xff800000u);  // - infinity
  int first = g.count;
  for (int i = static_cast<int>(threadIdx.x); i < g.count; i += kGroupThreads) {
    const float value = measure(g.weight[i]);
    if (g.kept(i) != 0.0f && value > largest) largest = value, first = i;  // a thread meets its weights in order
  }
  ptx::block_sync();
  const float most = block_reduce<kGroupWarps>(largest, reinterpret_cast<float*>(shared), Larger{});
  ptx::block_sync();
  return block_reduce<kGroupWarps>(largest == most ? first : g.count, reinterpret_cast<int*>(shared), Least{});
}

/// The thread that wrote the gradient of a weight adds to it.
__device__ __forceinline__ void add_to_gradient(const RoundingBackwardArguments& a, const ScaleGroup& g, int place, float addend) {
  if (place % kGroupThreads == static_cast<int>(threadIdx.x)) a.output[g.at + place] += addend;
}

__device__ __forceinline__ void through_maximum(const RoundingBackwardArguments& a, const ScaleGroup& g, float scale, float gradient,
                                                unsigned char* shared) {
  const int place = first_largest(g, shared, [](float weight) { return fabsf(weight); });
  if (place == g.count || g.weight[place] == 0.0f) return;
  add_to_gradient(a, g, place, gradient * scale / g.weight[place]);
}

// The scale is proportional to high - low; zero point = - levels * low / (high - low), up to a constant.
__device__ __forceinline__ void through_range(const RoundingBackwardArguments& a, const ScaleGroup& g, float scale, float gradient,
                                              float zero_point_gradient, unsigned char* shared) {
  const int largest = first_largest(g, shared, [](float weight) { return weight; });
  const int least = first_largest(g, shared, [](float weight) { return -weight; });
  if (least == g.count) return;
  const float low = g.weight[least], range = g.weight[largest] - low;
  if (range == 0.0f) return;
  const float share = gradient * scale / range, zero_share = zero_point_gradient * a.levels_of_range / range;
  add_to_gradient(a, g, largest, share + zero_share * low / range);
  add_to_gradient(a, g, least, -(share + zero_share * (1.0f + low / range)));
}

// d scale / d w_i = scale * sign(w_i) / sum |w| over the weights that count; of their distances from a mean the mean is subtracted.
__device__ __forceinline__ void through_mean(const RoundingBackwardArguments& a, const ScaleGroup& g, float scale, float gradient,
                                             unsigned char* shared) {
  const Counted counted = counted_by(a.statistic, g, shared);
  const GroupSums sums = sums_of(g, counted, shared);
  if (sums.magnitude == 0.0) return;
  const float share = gradient * scale / static_cast<float>(sums.magnitude);
  const float mean_sign = a.statistic == ScaleStatistic::kCentred ? static_cast<float>(sums.signs / sums.count) : 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < g.count; i += kGroupThreads) {
    if (is_counted(g, counted, i)) a.output[g.at + i] += (sign_of(g.weight[i] - counted.centre) - mean_sign) * share;
  }
}

__global__ void __launch_bounds__(kGroupThreads) backward_kernel(const RoundingBackwardArguments a) {
  ptx::take_turn();
  const ScaleGroup g = group_of(a);
  unsigned char* shared = shared_memory();
  const float scale = a.scale[g.scale_at], zero_point = a.zero_point ? a.zero_point[g.scale_at] : 0.0f;
  const float threshold = rounding_threshold(a.rounding, g, shared), low = a.lowest - a.outer_half, high = a.highest + a.outer_half;
  const bool noise = a.rounding == Rounding::kNoise;
  float sums[2] = {};  // gradients of scale and zero point
  for (int i = static_cast<int>(threadIdx.x); i < g.count; i += kGroupThreads) {
    const float gradient = a.gradient[g.at + i], kept_gradient = gradient * g.kept(i);
    const float ratio = g.weight[i] / scale, place = ratio + zero_point;
    const float level = noise ? noise_of(a, g, i) + place : level_of(a, g, i, scale, zero_point, threshold);
    const bool beyond = a.clipped && !noise && (place > high || place < low);
    a.output[g.at + i] = beyond ? 0.0f : a.through_mask ? gradient : kept_gradient;
    sums[0] += kept_gradient * (level - zero_point - (beyond ? 0.0f : ratio));
    sums[1] -= beyond ? kept_gradient * scale : 0.0f;
  }
  ptx::block_sync();
  block_sums<kGroupWarps>(sums, reinterpret_cast<float*>(shared));
  const float scale_gradient = sums[0] + a.scale_decay;
  if (threadIdx.x == 0) {
    if (a.scale_gradient) a.scale_gradient[g.scale_at] = scale_gradient;
    if (a.zero_point_gradient) a.zero_point_gradient[g.scale_at] = sums[1];
  }
  if (!a.found) return;
  const float found = a.found[g.scale_at];
  if (a.zero_point) through_range(a, g, found, scale_gradient, sums[1], shared);
  else if (a.statistic == ScaleStatistic::kMaximum) through_maximum(a, g, found, scale_gradient, shared);
  else through_mean(a, g, found, scale_gradient, shared);
}

RoundingArguments rounding_arguments(const DeviceQuantization& q, const Stream& stream) {
  return rounding_arguments(group_arguments(q, q.scale, q.zero_point, stream), q.spec, q.rounding, q.seed);
}

}  // namespace

void fake_quantize(const DeviceQuantization& q, const DeviceMatrix& output, const Stream& stream) {
  if (q.weight.is_empty()) return;
  launch(fake_quantize_kernel, group_shape(q), stream.handle(), rounding_arguments(q, stream), rounded_weights(output, stream));
}

void fake_quantize_backward(const DeviceQuantization& q, const DeviceMatrix& output_gradient, const DeviceGradientChoices& choices,
                            const DeviceQuantizationGradients& gradients, const Stream& stream) {
  if (q.weight.is_empty()) return;
  RoundingBackwardArguments a{rounding_arguments(q, stream)};
  a.output = gradients.weight.use_on<float>(stream);
  a.gradient = output_gradient.use_on<float>(stream), a.found = choices.found ? choices.found->use_on<float>(stream) : nullptr;
  a.scale_gradient = gradients.scale ? gradients.scale->use_on<float>(stream) : nullptr;
  a.zero_point_gradient = gradients.zero_point ? gradients.zero_point->use_on<float>(stream) : nullptr;
  a.scale_decay = choices.scale_decay;
  a.levels_of_range = a.highest + (choices.statistic == ScaleStatistic::kEdge ? 2.0f * a.outer_half : 0.0f);
  a.clipped = choices.clipped, a.through_mask = choices.through_mask;
  a.statistic = is_mean(q.spec, choices.statistic) ? choices.statistic : ScaleStatistic::kMaximum;
  launch(backward_kernel, group_shape(q), stream.handle(), a);
}

}  // namespace usmlite::cuda
