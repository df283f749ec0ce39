// One product of activations with a weight in fragment order: what every matmul kernel of this folder is given.
#pragma once
#include <bit>
#include <cstdint>

#include "cuda/fragment_order.hpp"

namespace usmlite::cuda {

enum class Activation : uint8_t { kNone, kSilu, kRelu, kGelu, kGlu };

/// A weight in device memory, as fragment_order.hpp describes it.
struct WeightView {
  Codes codes;
  Arithmetic arithmetic;
  bool sparse;                    // 2:4
  int channels, inputs;           // without padding
  int blocks, slices;             // with it
  int group_size;                 // inputs per group scale; 0: one scale per channel
  const uint8_t* tiles;           // (blocks, slices, 4, tile_bytes)
  const uint8_t* metadata;        // (blocks, slices, 4, kMetadataBytesPerTile); null when dense
  // (blocks, group_count(), 64) 16-bit floats of the arithmetic; null without groups. Of codes with zero points (blocks, groups or 1, 3, 64).
  const uint16_t* group_scales;
  const float* channel_scales;    // (64 blocks); null: 1 (16-bit float codes, groups of bfloat16, whole_scales)
  // Of kInt8: the sums of the weights themselves in each channel, (64 blocks), for activations with offsets; may be null.
  const float* channel_sums;
  // Of kInt8 with a scale for each group of inputs or with zero points, which matmul_grouped_int8.hpp multiplies:
  // weight = scale * (level_step * code + level_shift - zero point).
  int level_step, level_shift;    // the latter times kNibbleFactor where the codes are kInt4
  const float* whole_scales;      // float32 (blocks, groups or 1, 64); null in other weights
  const float* zero_points;       // alike, times kNibbleFactor where the codes are kInt4; null: 0
  const uint32_t* kept;           // (blocks, slices, 4, 32): bits of the weights that are not zero because they are pruned; null: all
};

/// Groups of 16-bit arithmetic that a channel has, and the logarithm of their inputs; codes with zero points have at least one, of all inputs.
inline int groups_of(const WeightView& w) { return w.group_size ? group_count(w.inputs, w.group_size) : has_zero_points(w.codes) ? 1 : 0; }
inline int group_size_log2(const WeightView& w) { return w.group_size ? std::countr_zero(static_cast<unsigned>(w.group_size)) : 30; }

/// Whether scales of groups, or zero points, enter a product of whole numbers on the way.
inline bool is_grouped_int8(const WeightView& weight) { return weight.whole_scales != nullptr; }

/// y (tokens, channels) = activation((x . Wᵀ * channel scale) * row scale + row offset * channel sum + bias) * scale + residual * residual_scale.
/// With kGlu, y is (tokens, channels / 2): the weight's channels were interleaved when packed so that, in each tile of 16,
/// channels 0..7 are values and 8..15 their gates; y = value * sigmoid(gate). Bias is in the same order.
struct MatmulArguments {
  WeightView weight;
  int tokens;
  // (tokens, x_stride): 16-bit floats, or int8 / e4m3 with row_scales; rows aligned to 16 bytes, up to which zeros follow them
  const void* x;
  int64_t x_stride;               // elements
  const float* row_scales;        // (tokens) of int8 or e4m3 activations; null otherwise
  const float* row_offsets;       // (tokens) of asymmetric int8 activations, scale * code + offset; null otherwise
  void* y;                        // (tokens, y_stride) 16-bit floats: the weight's float arithmetic, bfloat16 for kInt8 and kFloat8
  int64_t y_stride;
  const float* bias;              // (channels padded to 64) or null
  const void* residual;           // like y, same stride, or null
  float scale, residual_scale;
  Activation activation;
  // Splitting the inputs over several blocks: partial sums and one counter per output tile, zero before and after. Null: not
  // allowed. Products of many tokens never split them in the batch-invariant mode.
  float* partial_sums;
  int64_t partial_sum_count;      // floats available
  int* counters;
};

}  // namespace usmlite::cuda
