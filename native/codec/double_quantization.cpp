#include "codec/double_quantization.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.hpp"

namespace usmlite::codec {
namespace {

constexpr int kOffset = 128;  // of stored codes
constexpr int kLargest = 127;

bool is_scale(float value) { return value > 0.0f && std::isfinite(value); }

float scale_of(float mean, float step, int code) { return std::fma(step, static_cast<float>(code), mean); }

[[noreturn]] void fail(const std::string& problem) { throw Error(error_code::kBadCheckpoint, problem); }

float mean_of(std::span<const float> scales) {
  double sum = 0.0;
  for (float scale : scales) sum += scale;
  return static_cast<float>(sum / static_cast<double>(scales.size()));
}

float step_of(std::span<const float> block, float mean) {
  float largest = 0.0f;
  for (float scale : block) largest = std::max(largest, std::fabs(scale - mean));
  const float step = largest / kLargest;
  return step > 0.0f ? step : 1.0f;
}

// The code 0, which stands for the mean, is always possible.
int code_of(float scale, float mean, float step) {
  int code = static_cast<int>(std::clamp(std::nearbyint((scale - mean) / step), -1.0f * kLargest, 1.0f * kLargest));
  while (code != 0 && !is_scale(scale_of(mean, step, code))) code += code < 0 ? 1 : -1;
  return code;
}

}  // namespace

QuantizedScales quantize_scales(std::span<const float> scales) {
  for (float scale : scales) {
    if (!is_scale(scale)) throw Error(error_code::kInvalidArgument, "a scale is " + std::to_string(scale) + "; scales are positive, finite numbers");
  }
  QuantizedScales result;
  const float mean = mean_of(scales);
  result.codes.reserve(scales.size());
  result.steps.push_back(mean);
  for (size_t begin = 0; begin < scales.size(); begin += kScaleBlock) {
    const auto block = scales.subspan(begin, std::min<size_t>(kScaleBlock, scales.size() - begin));
    const float step = step_of(block, mean);
    result.steps.push_back(step);
    for (float scale : block) result.codes.push_back(static_cast<uint8_t>(code_of(scale, mean, step) + kOffset));
  }
  return result;
}

std::vector<float> dequantize_scales(std::span<const uint8_t> codes, std::span<const float> steps) {
  if (static_cast<int64_t>(steps.size()) != scale_step_count(static_cast<int64_t>(codes.size()))) {
    fail("weight_scale_steps has " + std::to_string(steps.size()) + " values; " + std::to_string(codes.size()) + " scales need their mean and " +
         std::to_string(scale_step_count(static_cast<int64_t>(codes.size())) - 1) + " steps");
  }
  for (float step : steps) {
    if (!is_scale(step)) fail("weight_scale_steps holds " + std::to_string(step) + "; the mean and the steps of scales are positive, finite numbers");
  }
  std::vector<float> scales(codes.size());
  for (size_t i = 0; i < codes.size(); ++i) {
    if (codes[i] == 0) fail("weight_scale holds the code 0, which stands for no scale; codes are 1 to 255");
    scales[i] = scale_of(steps[0], steps[1 + i / kScaleBlock], codes[i] - kOffset);
    if (!is_scale(scales[i])) {
      fail("code " + std::to_string(codes[i]) + " of weight_scale stands for " + std::to_string(scales[i]) +
           "; scales are positive, finite numbers");
    }
  }
  return scales;
}

void replace_unmeasured_scales(const WeightSpec& spec, const float* weight, const uint8_t* mask, int64_t rows, int64_t columns, float* scales) {
  if (!spec.double_quantized) return;
  std::vector<float*> unmeasured;
  double sum = 0.0;
  int64_t count = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t begin = 0; begin < columns; begin += spec.group_size, ++scales) {
      float largest = 0.0f;
      for (int64_t at = row * columns + begin; at < row * columns + std::min(begin + spec.group_size, columns); ++at) {
        if (!mask || mask[at]) largest = std::max(largest, std::fabs(weight[at]));
      }
      if (largest / static_cast<float>(spec.highest_level()) > 0.0f) sum += *scales, ++count;
      else unmeasured.push_back(scales);
    }
  }
  if (count == 0) return;
  for (float* scale : unmeasured) *scale = static_cast<float>(sum / static_cast<double>(count));
}

}  // namespace usmlite::codec
