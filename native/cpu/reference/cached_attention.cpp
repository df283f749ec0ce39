#include "cpu/cached_attention.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace usmlite::cpu::reference {

void cached_attention(const CachedAttentionProblem& p, float* out) {
  std::vector<double> scores;
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    const int64_t first = p.query_offsets[sequence], queries = p.query_offsets[sequence + 1] - first;
    const int64_t begin = p.key_offsets[sequence], keys = p.key_offsets[sequence + 1] - begin;
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t head = 0; head < p.heads; ++head) {
        const int64_t column = head * p.head_dim;
        const float* query = p.query + (first + i) * p.width() + column;
        scores.assign(p.visible(i, queries, keys), 0.0);
        double largest = -INFINITY, total = 0.0;
        for (size_t j = 0; j < scores.size(); ++j) {
          const float* key = p.key + p.row(begin + j) * p.width() + column;
          for (int64_t c = 0; c < p.head_dim; ++c) scores[j] += static_cast<double>(query[c]) * key[c];
          largest = std::max(largest, scores[j] *= p.scale);
        }
        for (double& score : scores) total += score = std::exp(score - largest);
        for (int64_t c = 0; c < p.head_dim; ++c) {
          double sum = 0.0;
          for (size_t j = 0; j < scores.size(); ++j) sum += scores[j] * p.value[p.row(begin + j) * p.width() + column + c];
          out[(first + i) * p.width() + column + c] = static_cast<float>(sum / total);
        }
      }
    }
  }
}

}  // namespace usmlite::cpu::reference
