#include "cpu/relative_attention.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace usmlite::cpu::reference {

void relative_attention(const RelativeAttentionProblem& p, float* out) {
  const int64_t d = p.head_dim, width = p.query_width();
  std::vector<double> scores;
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    const int64_t first = p.offsets[sequence], frames = p.offsets[sequence + 1] - first;
    for (int64_t head = 0; head < p.heads; ++head) {
      const int64_t column = head * d, key_column = head / (p.heads / p.key_value_heads) * d;
      for (int64_t i = 0; i < frames; ++i) {
        const int64_t begin = p.left < 0 ? 0 : std::max<int64_t>(0, i - p.left);
        const int64_t end = p.right < 0 ? frames : std::min(frames, i + p.right + 1);
        const float* query = p.query + (first + i) * width + column;
        scores.assign(end - begin, 0.0);
        double largest = -INFINITY;
        for (int64_t j = begin; j < end; ++j) {
          const float* key = p.key + (first + j) * p.key_width() + key_column;
          const float* position = p.positions + (p.origin - (i - j)) * width + column;
          double sum = 0.0;
          for (int64_t c = 0; c < d; ++c) {
            sum += (static_cast<double>(query[c]) + p.content_bias[column + c]) * key[c];
            sum += (static_cast<double>(query[c]) + p.position_bias[column + c]) * position[c];
          }
          scores[j - begin] = sum * p.scale;
          largest = std::max(largest, scores[j - begin]);
        }
        double total = 0.0;
        for (double& score : scores) total += score = std::exp(score - largest);
        for (int64_t c = 0; c < d; ++c) {
          double sum = 0.0;
          for (int64_t j = begin; j < end; ++j) sum += scores[j - begin] * p.value[(first + j) * p.key_width() + key_column + c];
          out[(first + i) * width + column + c] = static_cast<float>(sum / total);
        }
      }
    }
  }
}

}  // namespace usmlite::cpu::reference
