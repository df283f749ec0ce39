#include "cpu/integer_relative_attention.hpp"

#include "cpu/reference/integer_attention_codes.hpp"

namespace usmlite::cpu::reference {
namespace {

Codes round_row(const float* row, const float* bias, float factor, int64_t d) {
  std::vector<float> values;
  for (int64_t i = 0; i < d; ++i) values.push_back(factor * (row[i] + (bias ? bias[i] : 0.0f)));
  return round_to_codes(values, kLargestScoreCode);
}

}  // namespace

// Windows are attended to as one block of keys after another from their first key on, whatever blocks the fast paths have: results differ
// by roundings of float32.
void integer_relative_attention(const RelativeAttentionProblem& p, float* out) {
  const int64_t d = p.head_dim, width = p.query_width();
  for (int64_t unit = 0; unit < p.sequences * p.heads; ++unit) {
    const int64_t sequence = unit / p.heads, head = unit % p.heads, source = head / (p.heads / p.key_value_heads) * d;
    const int64_t first = p.offsets[sequence], frames = p.offsets[sequence + 1] - first, key_at = first * p.key_width() + source;
    std::vector<Codes> keys, positions;
    for (int64_t t = 0; t < frames; ++t) keys.push_back(round_row(p.key + key_at + t * p.key_width(), nullptr, 1.0f, d));
    for (int64_t row = 0; row < p.position_rows; ++row) positions.push_back(round_row(p.positions + row * width + head * d, nullptr, 1.0f, d));
    for (int64_t t = 0; t < frames; ++t) {
      const int64_t at = (first + t) * width + head * d;
      const Codes content = round_row(p.query + at, p.content_bias + head * d, p.scale, d);
      const Codes positional = round_row(p.query + at, p.position_bias + head * d, p.scale, d);
      const int64_t begin = p.left < 0 ? 0 : std::max<int64_t>(0, t - p.left), end = p.right < 0 ? frames : std::min(frames, t + p.right + 1);
      std::vector<float> scores;
      for (int64_t j = begin; j < end; ++j) {
        scores.push_back(product(content, keys[static_cast<size_t>(j)]) + product(positional, positions[static_cast<size_t>(p.origin - (t - j))]));
      }
      attend(scores, begin, begin, round_columns(p.value + key_at, p.key_width(), frames, d), out + at);
    }
  }
}

}  // namespace usmlite::cpu::reference
