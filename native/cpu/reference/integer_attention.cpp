#include "cpu/integer_attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace usmlite::cpu::reference {
namespace {

/// Whole numbers that stand for scale * code.
struct Codes {
  std::vector<int32_t> codes;
  float scale;
};

Codes round_to_codes(const std::vector<float>& values, int32_t largest_code) {
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

std::vector<float> rotated(const AttentionProblem& p, const float* row, int64_t position, float factor) {
  const int64_t half = p.head_dim / 2;
  std::vector<float> result(row, row + p.head_dim);
  for (int64_t i = 0; p.rotary && i < half; ++i) {
    const float c = p.rotary->cosine[position * half + i], s = p.rotary->sine[position * half + i];
    result[i] = row[i] * c - row[i + half] * s;
    result[i + half] = row[i + half] * c + row[i] * s;
  }
  for (float& value : result) value *= factor;
  return result;
}

}  // namespace

void integer_attention(const AttentionProblem& p, float* out, float* log_sum) {
  const int64_t d = p.head_dim;
  for (int64_t unit = 0; unit < p.sequences * p.heads; ++unit) {
    const int64_t sequence = unit / p.heads, head = unit % p.heads, source = head / (p.heads / p.key_value_heads) * d;
    const int64_t first = p.offsets[sequence], frames = p.offsets[sequence + 1] - first;
    std::vector<Codes> keys, columns;
    for (int64_t t = 0; t < frames; ++t) {
      keys.push_back(round_to_codes(rotated(p, p.key + (first + t) * p.key_width() + source, t, 1.0f), kLargestScoreCode));
    }
    for (int64_t i = 0; i < d; ++i) {
      std::vector<float> column;
      for (int64_t t = 0; t < frames; ++t) column.push_back(p.value[(first + t) * p.key_width() + source + i]);
      columns.push_back(round_to_codes(column, kLargestValueCode));
    }
    for (int64_t t = 0; t < frames; ++t) {
      const int64_t at = (first + t) * p.query_width() + head * d;
      const Codes query = round_to_codes(rotated(p, p.query + at, t, p.scale), kLargestScoreCode);
      float maximum = -INFINITY, sum = 0.0f;
      std::vector<float> results(d, 0.0f);
      for (int64_t begin = 0; begin < frames; begin += kIntegerKeyBlock) {
        const int64_t end = std::min(begin + kIntegerKeyBlock, frames);
        std::vector<float> scores;
        for (int64_t j = begin; j < end; ++j) {
          int32_t product = 0;
          for (int64_t i = 0; i < d; ++i) product += query.codes[i] * keys[j].codes[i];
          scores.push_back(static_cast<float>(product) * (query.scale * keys[j].scale));
        }
        const float top = std::max(maximum, *std::max_element(scores.begin(), scores.end())), rescale = std::exp(maximum - top);
        std::vector<int32_t> powers;
        int32_t total = 0;
        for (float score : scores) {
          powers.push_back(static_cast<int32_t>(std::nearbyint(std::exp(score - top) * static_cast<float>(kLargestPowerCode))));
          total += powers.back();
        }
        maximum = top;
        // A score that is not a number has no power to round.
        sum = std::isnan(top) || std::any_of(scores.begin(), scores.end(), [](float score) { return std::isnan(score); })
                  ? NAN
                  : sum * rescale + static_cast<float>(total);
        for (int64_t i = 0; i < d; ++i) {
          int32_t product = 0;
          for (int64_t j = begin; j < end; ++j) product += powers[j - begin] * columns[i].codes[j];
          results[i] = results[i] * rescale + static_cast<float>(product) * columns[i].scale;
        }
      }
      for (int64_t i = 0; i < d; ++i) out[at + i] = results[i] / sum;
      if (log_sum) log_sum[(first + t) * p.heads + head] = maximum + std::log(sum / static_cast<float>(kLargestPowerCode));
    }
  }
}

}  // namespace usmlite::cpu::reference
