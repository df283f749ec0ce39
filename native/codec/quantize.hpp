// Weights to levels and back, one row (output channel) at a time: what "int4+2:4" means in numbers.
#pragma once
#include <cstdint>

#include "codec/weight_spec.hpp"

namespace usmlite::codec {

/// Marks the `kept` largest |w| of every `of` adjacent inputs with 1, the others with 0; ties go to the lower index.
/// A last, incomplete group keeps at most `kept` of its inputs.
void magnitude_mask(const float* weights, int64_t columns, int kept, int of, uint8_t* mask);

/// What the weights of one scale group are measured by. `scale` is 1 where the formula gives 0.
struct GroupScale {
  float scale;
  float zero_point;  // 0 in formats without
  bool constant;     // the scale does not depend on the weights, as where all are zero
};

/// Over the kept weights of a group (`mask` may be null: all):
///   symmetric, mid-rise, nf4   scale = max |w| / highest level
///   ternary, int1              scale = mean |w| (BitNet b1.58, arXiv 2402.17764; XNOR-Net, arXiv 1603.05279)
///   asymmetric                 scale = (max w - min w) / highest level, zero point = -min w / scale
GroupScale group_scale(const WeightSpec& spec, const float* weights, const uint8_t* mask, int64_t count);

/// The level nearest to w / scale (+ zero point). Halfway: whole numbers to the even one; odd ones so that (level - 1) / 2
/// is even; nf4 to the lower one.
float nearest_level(const WeightSpec& spec, float weight, const GroupScale& group);

/// Levels, scales and zero points of a row; `mask` may be null: all kept. Pruned inputs have level 0. float32: levels are
/// the bits. With `scales_given` the scales and zero points are not computed but used as they are. Throws INVALID_ARGUMENT
/// when a weight is NaN or infinite.
void quantize_row(const WeightSpec& spec, const float* weights, const uint8_t* mask, int64_t columns, int32_t* levels,
                  float* scales, float* zero_points, bool scales_given = false);

/// weight = scale * (level - zero point), zero where the mask (may be null) is; never -0.
void dequantize_row(const WeightSpec& spec, const int32_t* levels, const float* scales, const float* zero_points,
                    const uint8_t* mask, int64_t columns, float* weights);

}  // namespace usmlite::codec
