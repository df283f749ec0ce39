// What the kernels of quantization-aware training share: a thread block takes a scale group, whose weights it measures as codec/scale_rule.hpp
// and rounds as codec/quantize.hpp.
#pragma once

#include "cuda/block_reduction.cuh"
#include "cuda/fake_quantize.hpp"
#include "cuda/launch.hpp"

namespace usmlite::cuda {

inline constexpr int kGroupWarps = 4, kGroupThreads = 32 * kGroupWarps;
inline constexpr int kNormalFloatLevels = 16;

struct GroupArguments {
  const float* weight;
  const int8_t* mask;
  float *scale, *zero_point;                  // the latter null in formats without
  int64_t stride, mask_stride, scale_stride;  // elements
  int columns, group, groups;                 // of a row
  float lowest, highest, outer_half;
  bool odd_levels, normal_float;
  float levels[kNormalFloatLevels];
};

struct ScaleGroup {
  const float* weight;
  const int8_t* mask;
  int64_t at;        // of the first weight in matrices of floats
  int64_t index;     // of the first weight among those of its matrix
  int64_t scale_at;  // of scale and zero point
  int count;

  __device__ __forceinline__ float kept(int i) const { return !mask || mask[i] ? 1.0f : 0.0f; }
};

__device__ __forceinline__ ScaleGroup group_of(const GroupArguments& a) {
  const int64_t row = blockIdx.x / static_cast<unsigned>(a.groups);
  const int own = static_cast<int>(blockIdx.x % static_cast<unsigned>(a.groups)), begin = own * a.group;
  const int64_t at = row * a.stride + begin;
  return {a.weight + at, a.mask ? a.mask + row * a.mask_stride + begin : nullptr, at, row * a.columns + begin, row * a.scale_stride + own,
          min(a.group, a.columns - begin)};
}

// What follows asks all threads of the block, and gives each of them the result. `shared`: kGroupSharedBytes.

/// Of all kept weights that exceed a magnitude, with what is subtracted from them.
struct GroupSums {
  double total, magnitude, signs, count;
};
inline constexpr size_t kGroupSharedBytes = kGroupWarps * sizeof(GroupSums);

/// Which weights a mean is of: those with |w| > threshold, by their distance from `centre`.
struct Counted {
  float centre, threshold;
};
__device__ __forceinline__ Counted all_counted() { return {0.0f, -1.0f}; }

__device__ __forceinline__ float sign_of(float x) { return x < 0.0f ? -1.0f : 1.0f; }

__device__ __forceinline__ bool is_counted(const ScaleGroup& g, const Counted& counted, int i) {
  return g.kept(i) != 0.0f && fabsf(g.weight[i]) > counted.threshold;
}

__device__ __forceinline__ GroupSums sums_of(const ScaleGroup& g, const Counted& counted, unsigned char* shared) {
  double sums[4] = {};
  for (int i = static_cast<int>(threadIdx.x); i < g.count; i += kGroupThreads) {
    if (!is_counted(g, counted, i)) continue;
    const float distance = g.weight[i] - counted.centre;
    sums[0] += static_cast<double>(distance), sums[1] += static_cast<double>(fabsf(distance)), sums[2] += static_cast<double>(sign_of(distance)),
        sums[3] += 1.0;
  }
  ptx::block_sync();  // all have read what was reduced before
  block_sums<kGroupWarps>(sums, reinterpret_cast<double*>(shared));
  return {sums[0], sums[1], sums[2], sums[3]};
}

__device__ __forceinline__ float mean_of(double sum, double count) { return count > 0.0 ? static_cast<float>(sum / count) : 0.0f; }

/// codec::rounding_threshold
__device__ __forceinline__ float rounding_threshold(codec::Rounding rounding, const ScaleGroup& g, unsigned char* shared) {
  if (rounding != codec::Rounding::kThreshold && rounding != codec::Rounding::kCentred) return 0.0f;
  const GroupSums all = sums_of(g, all_counted(), shared);
  return rounding == codec::Rounding::kThreshold ? codec::kTernaryThreshold * mean_of(all.magnitude, all.count) : mean_of(all.total, all.count);
}

/// What a statistic that is a mean takes the mean of.
__device__ __forceinline__ Counted counted_by(codec::ScaleStatistic statistic, const ScaleGroup& g, unsigned char* shared) {
  if (statistic == codec::ScaleStatistic::kThreshold) return {0.0f, rounding_threshold(codec::Rounding::kThreshold, g, shared)};
  if (statistic == codec::ScaleStatistic::kCentred) return {rounding_threshold(codec::Rounding::kCentred, g, shared), -1.0f};
  return all_counted();
}

/// codec::nearest_level of weight / scale
__device__ __forceinline__ float nearest_level(const GroupArguments& a, float ratio, float zero_point) {
  if (a.normal_float) {
    float level = a.levels[0];
#pragma unroll
    for (int i = 0; i + 1 < kNormalFloatLevels; ++i) level = ratio > 0.5f * (a.levels[i] + a.levels[i + 1]) ? a.levels[i + 1] : level;
    return level;
  }
  const float bounded = fmaxf(fminf(ratio + zero_point, a.highest + 2.0f), a.lowest - 2.0f);  // so that it fits into an integer
  const float level = a.odd_levels ? 2.0f * static_cast<float>(ptx::round_to_int((bounded - 1.0f) * 0.5f)) + 1.0f
                                   : static_cast<float>(ptx::round_to_int(bounded));
  return fmaxf(fminf(level, a.highest), a.lowest);
}

/// Whether a scale of this format and statistic is a mean; of formats with zero points none is.
inline bool is_mean(const codec::WeightSpec& spec, codec::ScaleStatistic statistic) {
  using enum codec::ScaleStatistic;
  const bool format = spec.highest_level() == 1 && (spec.format == codec::NumberFormat::kTernary || spec.format == codec::NumberFormat::kMidRise);
  return statistic == kMean || statistic == kThreshold || statistic == kCentred || (statistic == kFormat && format);
}

inline GroupArguments group_arguments(const DeviceWeightGroups& w, const DeviceMatrix& scale, const DeviceMatrix* zero_point, const Stream& stream) {
  GroupArguments a{};
  a.weight = w.weight.use_on<float>(stream), a.mask = w.mask ? w.mask->use_on<int8_t>(stream) : nullptr;
  a.scale = scale.use_on<float>(stream), a.zero_point = zero_point ? zero_point->use_on<float>(stream) : nullptr;
  a.stride = w.weight.row_stride(), a.mask_stride = w.mask ? w.mask->row_stride() : 0, a.scale_stride = scale.row_stride();
  a.columns = static_cast<int>(w.weight.columns()), a.groups = static_cast<int>(w.groups_per_row());
  a.group = static_cast<int>(w.spec.group_size ? w.spec.group_size : w.weight.columns());
  a.lowest = static_cast<float>(w.spec.lowest_level()), a.highest = static_cast<float>(w.spec.highest_level());
  a.outer_half = codec::outer_half(w.spec);
  a.odd_levels = w.spec.format == codec::NumberFormat::kMidRise, a.normal_float = w.spec.format == codec::NumberFormat::kNormalFloat4;
  for (int i = 0; i < kNormalFloatLevels; ++i) a.levels[i] = static_cast<float>(codec::kNormalFloat4Levels[static_cast<size_t>(i)]);
  return a;
}

/// A block for each group.
inline LaunchShape group_shape(const DeviceWeightGroups& w) {
  return {static_cast<unsigned>(w.weight.rows() * w.groups_per_row()), 1, 1, kGroupThreads, kGroupSharedBytes, 1, kernels_take_turns()};
}

}  // namespace usmlite::cuda
