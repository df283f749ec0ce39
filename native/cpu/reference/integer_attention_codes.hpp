// What attention in whole numbers shares in the reference: codes, and the softmax of a row of scores made block by block.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/integer_attention.hpp"

namespace usmlite::cpu::reference {

/// Whole numbers that stand for scale * code.
struct Codes {
  std::vector<int32_t> codes;
  float scale;
};

inline Codes round_to_codes(const std::vector<float>& values, int32_t largest_code) {
  float largest = 0.0f;
  bool finite = true;
  for (float value : values) {
    largest = std::max(largest, std::fabs(value));
    finite = finite && std::isfinite(value);
  }
  const auto most = static_cast<float>(largest_code);
  Codes result{std::vector<int32_t>(values.size(), 0), finite ? 0.0f : NAN};
  if (!finite || largest < std::numeric_limits<float>::min() * most) return result;
  result.scale = largest / most;
  for (size_t i = 0; i < values.size(); ++i) result.codes[i] = static_cast<int32_t>(std::nearbyint(values[i] * (most / largest)));
  return result;
}

/// Codes of the columns of `count` rows of d values.
inline std::vector<Codes> round_columns(const float* rows, int64_t stride, int64_t count, int64_t d) {
  std::vector<Codes> columns;
  for (int64_t i = 0; i < d; ++i) {
    std::vector<float> column;
    for (int64_t t = 0; t < count; ++t) column.push_back(rows[t * stride + i]);
    columns.push_back(round_to_codes(column, kLargestValueCode));
  }
  return columns;
}

inline float product(const Codes& a, const Codes& b) {
  int32_t sum = 0;
  for (size_t i = 0; i < a.codes.size(); ++i) sum += a.codes[i] * b.codes[i];
  return static_cast<float>(sum) * (a.scale * b.scale);
}

/// softmax(scores) times columns, of keys [first_key, first_key + scores.size()), in blocks that begin at multiples of kIntegerKeyBlock from
/// `first_block` on. Returns the logarithm of the sum of the powers of all scores.
inline float attend(const std::vector<float>& scores, int64_t first_key, int64_t first_block, const std::vector<Codes>& columns, float* out) {
  const int64_t last_key = first_key + static_cast<int64_t>(scores.size());
  float maximum = -INFINITY, sum = 0.0f;
  std::vector<float> results(columns.size(), 0.0f);
  for (int64_t block = first_block; block < last_key; block += kIntegerKeyBlock) {
    const int64_t begin = std::max(block, first_key), end = std::min(block + kIntegerKeyBlock, last_key);
    if (begin >= end) continue;
    const auto score = [&](int64_t j) { return scores[static_cast<size_t>(j - first_key)]; };
    float top = maximum;
    bool finite = true;
    for (int64_t j = begin; j < end; ++j) top = std::max(top, score(j)), finite = finite && std::isfinite(score(j));
    const float rescale = std::exp(maximum - top);
    maximum = top;
    int32_t total = 0;
    std::vector<int32_t> products(columns.size(), 0);
    for (int64_t j = begin; j < end && finite; ++j) {
      const auto power = static_cast<int32_t>(std::nearbyint(std::exp(score(j) - top) * static_cast<float>(kLargestPowerCode)));
      total += power;
      for (size_t i = 0; i < columns.size(); ++i) products[i] += power * columns[i].codes[static_cast<size_t>(j)];
    }
    sum = finite ? sum * rescale + static_cast<float>(total) : NAN;
    for (size_t i = 0; i < columns.size(); ++i) results[i] = results[i] * rescale + static_cast<float>(products[i]) * columns[i].scale;
  }
  for (size_t i = 0; i < columns.size(); ++i) out[i] = results[i] / sum;
  return maximum + std::log(sum / static_cast<float>(kLargestPowerCode));
}

}  // namespace usmlite::cpu::reference
