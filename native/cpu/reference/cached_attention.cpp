#include "cpu/cached_attention.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace usmlite::cpu::reference {
namespace {

// What query `i` of a sequence makes of each key that it sees, in one head: softmax(scale * q k^T).
std::vector<double> probabilities(const CachedAttentionProblem& p, int64_t sequence, int64_t i, int64_t column) {
  const int64_t first = p.query_offsets[sequence], queries = p.query_offsets[sequence + 1] - first;
  const int64_t begin = p.key_offsets[sequence], keys = p.key_offsets[sequence + 1] - begin;
  const float* query = p.query + (first + i) * p.width() + column;
  std::vector<double> scores(p.visible(i, queries, keys), 0.0);
  double largest = -INFINITY, total = 0.0;
  for (size_t j = 0; j < scores.size(); ++j) {
    const float* key = p.key + p.row(begin + j) * p.width() + column;
    for (int64_t c = 0; c < p.head_dim; ++c) scores[j] += static_cast<double>(query[c]) * key[c];
    largest = std::max(largest, scores[j] *= p.scale);
  }
  for (double& score : scores) total += score = std::exp(score - largest);
  for (double& score : scores) score /= total;
  return scores;
}

}  // namespace

void cached_attention(const CachedAttentionProblem& p, float* out) {
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    const int64_t first = p.query_offsets[sequence], queries = p.query_offsets[sequence + 1] - first, begin = p.key_offsets[sequence];
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t column = 0; column < p.width(); column += p.head_dim) {
        const std::vector<double> shares = probabilities(p, sequence, i, column);
        for (int64_t c = column; c < column + p.head_dim; ++c) {
          double sum = 0.0;
          for (size_t j = 0; j < shares.size(); ++j) sum += shares[j] * p.value[p.row(begin + j) * p.width() + c];
          out[(first + i) * p.width() + c] = static_cast<float>(sum);
        }
      }
    }
  }
}

void cached_attention_backward(const CachedAttentionProblem& p, const float* gradient, float* gradient_query, float* gradient_key,
                               float* gradient_value) {
  const int64_t width = p.width(), rows = p.key_offsets[p.sequences] * width;
  std::vector<double> of_query(p.query_offsets[p.sequences] * width), of_key(rows), of_value(rows);
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    const int64_t first = p.query_offsets[sequence], queries = p.query_offsets[sequence + 1] - first, begin = p.key_offsets[sequence];
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t column = 0; column < width; column += p.head_dim) {
        const std::vector<double> shares = probabilities(p, sequence, i, column);
        const int64_t row = (first + i) * width;
        std::vector<double> slopes(shares.size(), 0.0);
        double mean = 0.0;
        for (size_t j = 0; j < shares.size(); ++j) {
          for (int64_t c = column; c < column + p.head_dim; ++c) {
            slopes[j] += static_cast<double>(gradient[row + c]) * p.value[(begin + j) * width + c];
            of_value[(begin + j) * width + c] += shares[j] * gradient[row + c];
          }
          mean += shares[j] * slopes[j];
        }
        for (size_t j = 0; j < shares.size(); ++j) {
          const double slope = p.scale * shares[j] * (slopes[j] - mean);
          for (int64_t c = column; c < column + p.head_dim; ++c) {
            of_query[row + c] += slope * p.key[(begin + j) * width + c];
            of_key[(begin + j) * width + c] += slope * p.query[row + c];
          }
        }
      }
    }
  }
  std::copy(of_query.begin(), of_query.end(), gradient_query);
  std::copy(of_key.begin(), of_key.end(), gradient_key);
  std::copy(of_value.begin(), of_value.end(), gradient_value);
}

}  // namespace usmlite::cpu::reference
