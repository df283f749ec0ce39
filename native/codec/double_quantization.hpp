// Scales that are themselves quantized: `/dq`, the double quantization of QLoRA (arXiv 2305.14314, section 3).
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "codec/weight_spec.hpp"

namespace usmlite::codec {

/// Scales in the order of the file, rows one after another, that share a step.
inline constexpr int64_t kScaleBlock = 256;

/// scale i = mean + step of its block * (stored code i - 128), rounded once.
struct QuantizedScales {
  std::vector<uint8_t> codes;  // 1 .. 255
  std::vector<float> steps;    // the mean of all scales, then the step of each block: (largest distance from the mean) / 127
};

/// Steps, with the mean before them, of so many scales.
inline int64_t scale_step_count(int64_t scales) { return 1 + (scales + kScaleBlock - 1) / kScaleBlock; }

/// Each of the scales, one at least, becomes the nearest one that is positive and finite. Throws INVALID_ARGUMENT for a scale that is not.
QuantizedScales quantize_scales(std::span<const float> scales);

/// The scales that codes stand for. Throws BAD_CHECKPOINT for numbers of them that do not fit together, a code of 0, a mean or step that is not
/// positive and finite, and a scale that is not.
std::vector<float> dequantize_scales(std::span<const uint8_t> codes, std::span<const float> steps);

/// The scale of a group whose kept weights are all zero says nothing: it becomes the mean of the others, so that it does not widen the step of
/// its block. `weight` and `mask` (may be null: all are kept) are (rows, columns). Nothing happens unless `spec` is double quantized.
void replace_unmeasured_scales(const WeightSpec& spec, const float* weight, const uint8_t* mask, int64_t rows, int64_t columns, float* scales);

}  // namespace usmlite::codec
