#include "cuda/fake_quantize.hpp"

#include "cuda/block_reduction.cuh"
#include "cuda/launch.hpp"

namespace usmlite::cuda {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;  // a block takes a scale group
constexpr int kLevels = 16;                        // of nf4

struct QuantizationArguments {
  const float *weight, *gradient;
  const int8_t* mask;
  float *scale, *output, *scale_gradient;
  int64_t stride, mask_stride, scale_stride;  // elements
  int columns, group, groups;                 // of a row
  float lowest, highest, outer_half, divisor, clip, search_lowest;
  int search_steps;
  bool odd_levels, normal_float;
  bool clipped, through_mask, through_scale;
  float levels[kLevels];
};

struct Group {
  const float* weight;
  const int8_t* mask;
  int64_t at;        // of the first weight in matrices of floats
  int64_t scale_at;  // of the scale
  int count;

  __device__ __forceinline__ float kept(int i) const { return !mask || mask[i] ? 1.0f : 0.0f; }
};

__device__ __forceinline__ Group group_of(const QuantizationArguments& a) {
  const int64_t row = blockIdx.x / static_cast<unsigned>(a.groups);
  const int index = static_cast<int>(blockIdx.x % static_cast<unsigned>(a.groups)), begin = index * a.group;
  const int64_t at = row * a.stride + begin;
  return {a.weight + at, a.mask ? a.mask + row * a.mask_stride + begin : nullptr, at, row * a.scale_stride + index, min(a.group, a.columns - begin)};
}

__device__ __forceinline__ float largest_magnitude(const Group& g, float* of_warps) {
  float largest = 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < g.count; i += kThreads) largest = fmaxf(largest, fabsf(g.weight[i]) * g.kept(i));
  return block_reduce<kWarps>(largest, of_warps, Larger{});
}

/// codec::nearest_level
__device__ __forceinline__ float nearest_level(const QuantizationArguments& a, float ratio) {
  if (a.normal_float) {
    float level = a.levels[0];
#pragma unroll
    for (int i = 0; i + 1 < kLevels; ++i) level = ratio > 0.5f * (a.levels[i] + a.levels[i + 1]) ? a.levels[i + 1] : level;
    return level;
  }
  const float bounded = fmaxf(fminf(ratio, a.highest + 2.0f), a.lowest - 2.0f);  // so that it fits into an integer
  const float level = a.odd_levels ? 2.0f * static_cast<float>(ptx::round_to_int((bounded - 1.0f) * 0.5f)) + 1.0f
                                   : static_cast<float>(ptx::round_to_int(bounded));
  return fmaxf(fminf(level, a.highest), a.lowest);
}

/// Of rounding the kept weights with this scale; every thread has it.
__device__ __forceinline__ float squared_error(const QuantizationArguments& a, const Group& g, float scale, float* of_warps) {
  float sum = 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < g.count; i += kThreads) {
    const float error = (nearest_level(a, g.weight[i] / scale) * scale - g.weight[i]) * g.kept(i);
    sum += error * error;
  }
  ptx::block_sync();  // all have read what was reduced before
  return block_reduce<kWarps>(sum, of_warps, Sum{});
}

__device__ __forceinline__ float scale_of(float measured) { return measured == 0.0f ? 1.0f : measured; }

__global__ void __launch_bounds__(kThreads) group_scales_kernel(const QuantizationArguments a) {
  ptx::take_turn();
  const Group g = group_of(a);
  auto* of_warps = reinterpret_cast<float*>(shared_memory());
  const float measured = largest_magnitude(g, of_warps) / a.divisor;
  float best = scale_of(measured * a.clip);
  if (a.search_steps) {
    float least = squared_error(a, g, best, of_warps);
    for (int step = 0; step < a.search_steps; ++step) {
      const float share = a.search_steps > 1 ? static_cast<float>(step) / static_cast<float>(a.search_steps - 1) : 0.0f;
      const float other = scale_of(measured * (1.0f - share * (1.0f - a.search_lowest)));
      const float error = squared_error(a, g, other, of_warps);
      if (error < least) least = error, best = other;
    }
  }
  if (threadIdx.x == 0) a.scale[g.scale_at] = best;
}

__global__ void __launch_bounds__(kThreads) fake_quantize_kernel(const QuantizationArguments a) {
  ptx::take_turn();
  const Group g = group_of(a);
  const float scale = a.scale[g.scale_at];
  for (int i = static_cast<int>(threadIdx.x); i < g.count; i += kThreads) {
    a.output[g.at + i] = g.kept(i) != 0.0f ? nearest_level(a, g.weight[i] / scale) * scale + 0.0f : 0.0f;  // + 0: no -0
  }
}

struct Least {
  __device__ __forceinline__ int operator()(int a, int b) const { return min(a, b); }
};

__global__ void __launch_bounds__(kThreads) backward_kernel(const QuantizationArguments a) {
  ptx::take_turn();
  const Group g = group_of(a);
  auto* shared = reinterpret_cast<float*>(shared_memory());
  const float scale = a.scale[g.scale_at], low = a.lowest - a.outer_half, high = a.highest + a.outer_half;
  float sum = 0.0f, largest = 0.0f;
  int first = g.count;
  for (int i = static_cast<int>(threadIdx.x); i < g.count; i += kThreads) {
    const float gradient = a.gradient[g.at + i], kept = g.kept(i), weight = g.weight[i];
    float ratio = weight / scale, passed = a.through_mask ? gradient : gradient * kept;
    const float level = nearest_level(a, ratio);
    if (a.clipped && (ratio > high || ratio < low)) ratio = 0.0f, passed = 0.0f;
    a.output[g.at + i] = passed;
    sum += gradient * kept * (level - ratio);
    const float magnitude = fabsf(weight);
    if (kept != 0.0f && magnitude > largest) largest = magnitude, first = i;  // a thread meets its weights in order
  }
  const float total = block_reduce<kWarps>(sum, shared, Sum{});
  if (threadIdx.x == 0) a.scale_gradient[g.scale_at] = total;
  if (!a.through_scale) return;
  ptx::block_sync();
  const float most = block_reduce<kWarps>(largest, shared, Larger{});
  ptx::block_sync();
  const int place = block_reduce<kWarps>(largest == most ? first : g.count, reinterpret_cast<int*>(shared), Least{});
  // The thread that wrote the gradient of that weight adds to it.
  if (place < g.count && place % kThreads == static_cast<int>(threadIdx.x)) a.output[g.at + place] += total * scale / g.weight[place];
}

struct MaskArguments {
  const float* x;
  float* y;
  int8_t* mask;
  int64_t stride, mask_stride;
  int64_t rows;
  int columns, kept, of;
  float pruned;
};

// A thread takes a group.
__global__ void __launch_bounds__(kThreads) magnitude_mask_kernel(const MaskArguments a) {
  ptx::take_turn();
  const int groups = (a.columns + a.of - 1) / a.of;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, row = index / groups;
  if (row >= a.rows) return;
  const int begin = static_cast<int>(index % groups) * a.of, end = min(begin + a.of, a.columns);
  const float* x = a.x + row * a.stride;
  for (int i = begin; i < end; ++i) {
    const float own = fabsf(x[i]);
    int larger = 0;
    for (int j = begin; j < end; ++j) {
      const float other = fabsf(x[j]);
      larger += other > own || (other == own && j < i) ? 1 : 0;
    }
    a.mask[row * a.mask_stride + i] = larger < a.kept ? 1 : 0;
  }
}

__global__ void __launch_bounds__(kThreads) apply_mask_kernel(const MaskArguments a) {
  ptx::take_turn();
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, row = index / a.columns;
  if (row >= a.rows) return;
  const int64_t column = index % a.columns, at = row * a.stride + column;
  const float x = a.x[at];
  a.y[at] = (a.mask[row * a.mask_stride + column] ? x : a.pruned * x) + 0.0f;
}

QuantizationArguments arguments_of(const DeviceQuantization& q, const DeviceTensor& scale, const std::shared_ptr<Stream>& stream) {
  QuantizationArguments a{};
  a.weight = q.weight.use_on<float>(stream), a.mask = q.mask ? q.mask->use_on<int8_t>(stream) : nullptr;
  a.scale = scale.use_on<float>(stream);
  a.stride = q.weight.row_stride(), a.mask_stride = q.mask ? q.mask->row_stride() : 0, a.scale_stride = scale.row_stride();
  a.columns = static_cast<int>(q.weight.columns()), a.groups = static_cast<int>(q.groups_per_row());
  a.group = static_cast<int>(q.spec.group_size ? q.spec.group_size : q.weight.columns());
  a.lowest = static_cast<float>(q.spec.lowest_level()), a.highest = static_cast<float>(q.spec.highest_level());
  a.outer_half = codec::outer_half(q.spec);
  a.odd_levels = q.spec.format == codec::NumberFormat::kMidRise, a.normal_float = q.spec.format == codec::NumberFormat::kNormalFloat4;
  for (int i = 0; i < kLevels; ++i) a.levels[i] = static_cast<float>(codec::kNormalFloat4Levels[static_cast<size_t>(i)]);
  return a;
}

LaunchShape shape_of(const DeviceQuantization& q) {
  return {static_cast<unsigned>(q.weight.rows() * q.groups_per_row()), 1, 1, kThreads, kWarps * sizeof(float), 1, kernels_take_turns()};
}

bool is_empty(const DeviceTensor& x) { return x.rows() * x.columns() == 0; }

LaunchShape shape_for(int64_t threads) { return {static_cast<unsigned>((threads + kThreads - 1) / kThreads), 1, 1, kThreads, 0, 1, kernels_take_turns()}; }

}  // namespace

void group_scales(const DeviceQuantization& q, const codec::ScaleRule& rule, const DeviceTensor& scale, const std::shared_ptr<Stream>& stream) {
  if (is_empty(q.weight)) return;
  QuantizationArguments a = arguments_of(q, scale, stream);
  a.divisor = a.highest + (rule.statistic == codec::ScaleStatistic::kEdge ? a.outer_half : 0.0f), a.clip = rule.clip;
  a.search_steps = rule.search_steps, a.search_lowest = rule.search_lowest;
  launch(group_scales_kernel, shape_of(q), stream->handle(), a);
}

void fake_quantize(const DeviceQuantization& q, const DeviceTensor& scale, const DeviceTensor& output, const std::shared_ptr<Stream>& stream) {
  if (is_empty(q.weight)) return;
  QuantizationArguments a = arguments_of(q, scale, stream);
  a.output = output.use_on<float>(stream);
  launch(fake_quantize_kernel, shape_of(q), stream->handle(), a);
}

void fake_quantize_backward(const DeviceQuantization& q, const DeviceTensor& scale, const DeviceTensor& output_gradient,
                            const DeviceGradientChoices& choices, const DeviceTensor& weight_gradient, const DeviceTensor& scale_gradient,
                            const std::shared_ptr<Stream>& stream) {
  if (is_empty(q.weight)) return;
  QuantizationArguments a = arguments_of(q, scale, stream);
  a.gradient = output_gradient.use_on<float>(stream), a.output = weight_gradient.use_on<float>(stream);
  a.scale_gradient = scale_gradient.use_on<float>(stream);
  a.clipped = choices.clipped, a.through_mask = choices.through_mask, a.through_scale = choices.through_scale;
  launch(backward_kernel, shape_of(q), stream->handle(), a);
}

void magnitude_mask(const DeviceTensor& weight, int kept, int of, const DeviceTensor& mask, const std::shared_ptr<Stream>& stream) {
  if (is_empty(weight)) return;
  MaskArguments a{};
  a.x = weight.use_on<float>(stream), a.mask = mask.use_on<int8_t>(stream), a.stride = weight.row_stride(), a.mask_stride = mask.row_stride();
  a.rows = weight.rows(), a.columns = static_cast<int>(weight.columns()), a.kept = kept, a.of = of;
  launch(magnitude_mask_kernel, shape_for(a.rows * ((a.columns + of - 1) / of)), stream->handle(), a);
}

void apply_mask(const DeviceTensor& x, const DeviceTensor& mask, float pruned, const DeviceTensor& y, const std::shared_ptr<Stream>& stream) {
  if (is_empty(x)) return;
  MaskArguments a{};
  a.x = x.use_on<float>(stream), a.y = y.use_on<float>(stream), a.mask = mask.use_on<int8_t>(stream);
  a.stride = x.row_stride(), a.mask_stride = mask.row_stride(), a.rows = x.rows(), a.columns = static_cast<int>(x.columns()), a.pruned = pruned;
  launch(apply_mask_kernel, shape_for(a.rows * a.columns), stream->handle(), a);
}

}  // namespace usmlite::cuda
