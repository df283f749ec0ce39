// Weights to codes and back, one row (output channel) at a time: what "int4+2:4" means in numbers.
#pragma once
#include <cstdint>

#include "codec/weight_spec.hpp"

namespace usmlite::codec {

/// Marks the `kept` largest |w| of every `of` adjacent inputs with 1, the others with 0; ties go to the lower index.
/// A last, incomplete group keeps at most `kept` of its inputs.
void magnitude_mask(const float* weights, int64_t columns, int kept, int of, uint8_t* mask);

/// scale = max |w * mask| / maximum_code over each scale group (1 where that is zero), code = w * mask / scale rounded
/// to nearest, ties to even, and clipped to +-maximum_code. `mask` may be null: all kept. float32: codes are the bits.
/// Throws INVALID_ARGUMENT when a weight is NaN or infinite.
void quantize_row(const WeightSpec& spec, const float* weights, const uint8_t* mask, int64_t columns, int32_t* codes,
                  float* scales);

/// weight = code * scale; never -0.
void dequantize_row(const WeightSpec& spec, const int32_t* codes, const float* scales, int64_t columns, float* weights);

}  // namespace usmlite::codec
