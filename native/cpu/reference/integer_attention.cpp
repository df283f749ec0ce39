#include "cpu/reference/integer_attention_codes.hpp"

namespace usmlite::cpu::reference {
namespace {

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
    const int64_t first = p.offsets[sequence], frames = p.offsets[sequence + 1] - first, key_at = first * p.key_width() + source;
    std::vector<Codes> keys;
    for (int64_t t = 0; t < frames; ++t) keys.push_back(round_to_codes(rotated(p, p.key + key_at + t * p.key_width(), t, 1.0f), kLargestScoreCode));
    const std::vector<Codes> columns = round_columns(p.value + key_at, p.key_width(), frames, d);
    for (int64_t t = 0; t < frames; ++t) {
      const int64_t at = (first + t) * p.query_width() + head * d;
      const Codes query = round_to_codes(rotated(p, p.query + at, t, p.scale), kLargestScoreCode);
      std::vector<float> scores;
      for (const Codes& key : keys) scores.push_back(product(query, key));
      const float logarithm = attend(scores, 0, 0, columns, out + at);
      if (log_sum) log_sum[(first + t) * p.heads + head] = logarithm;
    }
  }
}

}  // namespace usmlite::cpu::reference
