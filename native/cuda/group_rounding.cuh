// Rounding the weights of a scale group to levels, for the kernels that measure scales (group_scales.cu) and that are given them
// (fake_quantize.cu).
#pragma once

#include "cuda/random.cuh"
#include "cuda/scale_group.cuh"

namespace usmlite::cuda {

struct RoundingArguments : GroupArguments {
  codec::Rounding rounding;
  uint64_t seed;
  float level_distance;
};

/// Where rounded weights are written.
struct RoundedWeights {
  void* values;    // null: nowhere
  int64_t stride;  // elements
  bool narrow;     // bfloat16 instead of float32
};

/// Pseudo-quantization noise, in scales.
__device__ __forceinline__ float noise_of(const RoundingArguments& a, const ScaleGroup& g, int i) {
  return (random_uniform(a.seed, static_cast<uint64_t>(g.index + i)) - 0.5f) * a.level_distance;
}

/// @param threshold rounding_threshold of the group
__device__ __forceinline__ float level_of(const RoundingArguments& a, const ScaleGroup& g, int i, float scale, float zero_point, float threshold) {
  using codec::Rounding;
  const float weight = g.weight[i];
  if (a.rounding == Rounding::kThreshold) return weight > threshold ? 1.0f : weight < -threshold ? -1.0f : 0.0f;
  if (a.rounding == Rounding::kCentred) return weight > threshold ? 1.0f : -1.0f;
  const float ratio = weight / scale;
  if (a.rounding == Rounding::kNearest) return nearest_level(a, ratio, zero_point);
  const float uniform = random_uniform(a.seed, static_cast<uint64_t>(g.index + i));
  const float level = a.odd_levels ? 2.0f * floorf((ratio - 1.0f) * 0.5f + uniform) + 1.0f : floorf(ratio + zero_point + uniform);
  return fmaxf(fminf(level, a.highest), a.lowest);
}

/// Writes the weights of the group as they will be after packing. By the whole block, which has the same scale and zero point.
__device__ __forceinline__ void round_group(const RoundingArguments& a, const ScaleGroup& g, float scale, float zero_point, const RoundedWeights& to,
                                            unsigned char* shared) {
  const float threshold = rounding_threshold(a.rounding, g, shared);
  const int64_t row = blockIdx.x / static_cast<unsigned>(a.groups), first = row * to.stride + (g.index - row * a.columns);
  for (int i = static_cast<int>(threadIdx.x); i < g.count; i += kGroupThreads) {
    const float value = a.rounding == codec::Rounding::kNoise ? g.weight[i] + noise_of(a, g, i) * scale
                                                              : (level_of(a, g, i, scale, zero_point, threshold) - zero_point) * scale;
    const float kept = g.kept(i) != 0.0f ? value + 0.0f : 0.0f;  // + 0: no -0
    if (to.narrow) static_cast<uint16_t*>(to.values)[first + i] = ptx::from_float<BFloat16>(kept);
    else static_cast<float*>(to.values)[first + i] = kept;
  }
}

/// @param arguments what group_arguments gave
inline RoundingArguments rounding_arguments(const GroupArguments& arguments, const codec::WeightSpec& spec, codec::Rounding rounding, uint64_t seed) {
  return {arguments, rounding, seed, codec::level_distance(spec)};
}

inline RoundedWeights rounded_weights(const DeviceMatrix& output, const Stream& stream) {
  return {output.use_on<void>(stream), output.row_stride(), output.type() == DeviceType::kBFloat16};
}

}  // namespace usmlite::cuda
