#include "cuda/double_quantization.hpp"
#include "cuda/group_rounding.cuh"
#include "cuda/scratch_matrix.hpp"

namespace usmlite::cuda {
namespace {

struct GroupScalesArguments : RoundingArguments {
  RoundedWeights rounded;           // values: null where scales alone are wanted
  codec::ScaleStatistic statistic;  // kMaximum where a scale is no mean
  float divisor;                    // of the largest magnitude
  float edge, clip, search_lowest;
  int search_steps;
  bool power_of_two, plain_range, marks_unmeasured;
};

struct GroupScale {
  float scale, zero_point;
  bool constant;
};

/// The logarithm in double, rounded to a float, is that of the C library, whose rounding decides in the middle between two powers.
__device__ __forceinline__ float nearest_power_of_two(float scale) {
  const int exponent = ptx::round_to_int(static_cast<float>(log2(static_cast<double>(scale))));
  return ptx::float_of(static_cast<uint32_t>(min(max(exponent, -126), 128) + 127) << 23);  // 128: infinity
}

__device__ __forceinline__ float infinity() { return ptx::float_of(0x7f800000u); }

__device__ __forceinline__ bool is_finite(float x) { return fabsf(x) < infinity(); }

__device__ __forceinline__ float largest_magnitude(const ScaleGroup& g, unsigned char* shared) {
  float largest = 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < g.count; i += kGroupThreads) largest = fmaxf(largest, fabsf(g.weight[i]) * g.kept(i));
  ptx::block_sync();
  return block_reduce<kGroupWarps>(largest, reinterpret_cast<float*>(shared), Larger{});
}

/// codec::group_scale of formats with zero points
__device__ __forceinline__ GroupScale range_of(const GroupScalesArguments& a, const ScaleGroup& g, unsigned char* shared) {
  auto* of_warps = reinterpret_cast<float*>(shared);
  float most = -infinity(), negative_least = -infinity();
  for (int i = static_cast<int>(threadIdx.x); i < g.count; i += kGroupThreads) {
    if (g.kept(i) != 0.0f) most = fmaxf(most, g.weight[i]), negative_least = fmaxf(negative_least, -g.weight[i]);
  }
  ptx::block_sync();
  const float high = block_reduce<kGroupWarps>(most, of_warps, Larger{});
  ptx::block_sync();
  const float low = -block_reduce<kGroupWarps>(negative_least, of_warps, Larger{});
  if (low > high) return {1.0f, 0.0f, true};  // nothing is kept
  const float scale = high / a.highest - low / a.highest;
  if (scale == 0.0f || !is_finite(low / scale)) return {1.0f, 0.0f - low, true};
  return {scale, 0.0f - low / scale, false};
}

/// What is measured of a group, before anything is multiplied by it.
__device__ __forceinline__ GroupScale measured_scale(const GroupScalesArguments& a, const ScaleGroup& g, unsigned char* shared) {
  if (a.zero_point) return range_of(a, g, shared);
  if (a.statistic == codec::ScaleStatistic::kMaximum) return {largest_magnitude(g, shared) / a.divisor, 0.0f, false};
  const GroupSums sums = sums_of(g, counted_by(a.statistic, g, shared), shared);
  return {mean_of(sums.magnitude, sums.count), 0.0f, false};
}

/// codec::group_scale by a rule with this value of `clip`
__device__ __forceinline__ GroupScale clipped_scale(const GroupScalesArguments& a, const GroupScale& measured, float clip) {
  if (!a.zero_point) {
    const float scale = measured.scale * clip;
    if (scale == 0.0f) return {1.0f, 0.0f, true};
    return {a.power_of_two ? nearest_power_of_two(scale) : scale, 0.0f, false};
  }
  if (measured.constant || (a.plain_range && clip == 1.0f)) return measured;
  const float least = (0.0f - measured.zero_point) * measured.scale * clip;
  float scale = measured.scale * a.highest / (a.highest + 2.0f * a.edge) * clip;
  if (a.power_of_two && scale > 0.0f) scale = nearest_power_of_two(scale);
  if (scale == 0.0f || !is_finite(least / scale)) return measured;
  return {scale, 0.0f - least / scale - a.edge, false};
}

/// Of rounding the kept weights with this scale.
__device__ __forceinline__ float squared_error(const GroupScalesArguments& a, const ScaleGroup& g, const GroupScale& tried, unsigned char* shared) {
  float sum = 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < g.count; i += kGroupThreads) {
    const float level = nearest_level(a, g.weight[i] / tried.scale, tried.zero_point);
    const float error = ((level - tried.zero_point) * tried.scale - g.weight[i]) * g.kept(i);
    sum += error * error;
  }
  ptx::block_sync();
  return block_reduce<kGroupWarps>(sum, reinterpret_cast<float*>(shared), Sum{});
}

__global__ void __launch_bounds__(kGroupThreads) group_scales_kernel(const GroupScalesArguments a) {
  ptx::take_turn();
  const ScaleGroup g = group_of(a);
  unsigned char* shared = shared_memory();
  const GroupScale measured = measured_scale(a, g, shared);
  GroupScale best{};
  float least = infinity();
  for (int step = -1; step < a.search_steps; ++step) {  // -1: what is found without a search
    const float share = a.search_steps > 1 ? static_cast<float>(step) / static_cast<float>(a.search_steps - 1) : 0.0f;
    const GroupScale tried = clipped_scale(a, measured, step < 0 ? a.clip : fmaf(-share, 1.0f - a.search_lowest, 1.0f));
    if (step < 0) best = tried;
    if (a.search_steps == 0 || !(tried.scale > 0.0f)) continue;
    const float error = squared_error(a, g, tried, shared);
    if (step < 0 || error < least) least = error, best = tried;
  }
  const bool unmeasured = a.marks_unmeasured && !(largest_magnitude(g, shared) / a.highest > 0.0f);
  if (threadIdx.x == 0) {
    a.scale[g.scale_at] = unmeasured ? -best.scale : best.scale;
    if (a.zero_point) a.zero_point[g.scale_at] = best.zero_point;
    const int own = static_cast<int>(blockIdx.x % static_cast<unsigned>(a.groups));
    for (int64_t gap = own == a.groups - 1 ? a.groups : a.scale_stride; gap < a.scale_stride; ++gap) {  // after the scales of a row
      a.scale[g.scale_at - own + gap] = 0.0f;
      if (a.zero_point) a.zero_point[g.scale_at - own + gap] = 0.0f;
    }
  }
  if (a.rounded.values) round_group(a, g, best.scale, best.zero_point, a.rounded, shared);
}

GroupScalesArguments scale_arguments(const DeviceWeightGroups& w, const codec::ScaleRule& rule, const DeviceMatrix& scale,
                                     const DeviceMatrix* zero_point, const Stream& stream) {
  using enum codec::ScaleStatistic;
  GroupScalesArguments a{{group_arguments(w, scale, zero_point, stream)}};
  const bool format_mean = is_mean(w.spec, rule.statistic) && rule.statistic == kFormat;
  a.statistic = format_mean ? kMean : is_mean(w.spec, rule.statistic) ? rule.statistic : kMaximum;
  a.edge = rule.statistic == kEdge ? a.outer_half : 0.0f, a.divisor = a.highest + a.edge;
  a.clip = rule.clip, a.power_of_two = rule.power_of_two, a.plain_range = rule.statistic == kFormat && !rule.power_of_two;
  a.search_steps = rule.search_steps, a.search_lowest = rule.search_lowest;
  a.marks_unmeasured = w.spec.double_quantized;
  return a;
}

}  // namespace

void group_scales(const DeviceWeightGroups& w, const codec::ScaleRule& rule, const DeviceMatrix& scale, const DeviceMatrix* zero_point,
                  const Stream& stream) {
  if (w.weight.is_empty()) return;
  launch(group_scales_kernel, group_shape(w), stream.handle(), scale_arguments(w, rule, scale, zero_point, stream));
  if (w.spec.double_quantized) replace_unmeasured_scales(scale, stream);
}

void scale_and_round(const DeviceWeightGroups& w, const codec::ScaleRule& rule, const DeviceMatrix& scale, const DeviceMatrix* zero_point,
                     codec::Rounding rounding, uint64_t seed, const DeviceMatrix& output, const Stream& stream) {
  if (w.weight.is_empty()) return;
  if (w.spec.double_quantized) {  // scales are quantized with others of other blocks
    group_scales(w, rule, scale, zero_point, stream);
    const ScratchMatrix quantized(DeviceType::kFloat32, scale.rows(), scale.columns(), stream);
    quantize_scales(scale, quantized, stream);
    return fake_quantize({w, quantized, zero_point, rounding, seed}, output, stream);
  }
  GroupScalesArguments a = scale_arguments(w, rule, scale, zero_point, stream);
  static_cast<RoundingArguments&>(a) = rounding_arguments(a, w.spec, rounding, seed);
  a.rounded = rounded_weights(output, stream);
  launch(group_scales_kernel, group_shape(w), stream.handle(), a);
}

}  // namespace usmlite::cuda
