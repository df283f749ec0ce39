#include "cpu/relative_attention.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace usmlite::cpu::reference {
namespace {

// Row i of one head of a sequence that begins at `first`: probabilities of keys [begin, end).
struct Row {
  int64_t begin, end;
  std::vector<double> probabilities;

  Row(const RelativeAttentionProblem& p, int64_t first, int64_t frames, int64_t head, int64_t i) {
    const int64_t d = p.head_dim, width = p.query_width(), column = head * d, key_column = head / (p.heads / p.key_value_heads) * d;
    begin = p.left < 0 ? 0 : std::max<int64_t>(0, i - p.left);
    end = p.right < 0 ? frames : std::min(frames, i + p.right + 1);
    const float* query = p.query + (first + i) * width + column;
    probabilities.assign(end - begin, 0.0);
    double largest = -INFINITY, total = 0.0;
    for (int64_t j = begin; j < end; ++j) {
      const float* key = p.key + (first + j) * p.key_width() + key_column;
      const float* position = p.positions + (p.origin - (i - j)) * width + column;
      double sum = 0.0;
      for (int64_t c = 0; c < d; ++c) {
        sum += (static_cast<double>(query[c]) + p.content_bias[column + c]) * key[c];
        sum += (static_cast<double>(query[c]) + p.position_bias[column + c]) * position[c];
      }
      probabilities[j - begin] = sum * p.scale;
      largest = std::max(largest, probabilities[j - begin]);
    }
    for (double& probability : probabilities) total += probability = std::exp(probability - largest);
    for (double& probability : probabilities) probability /= total;
  }
};

// Calls row(first frame of the sequence, its frames, head, i).
template <typename Body>
void for_each_row(const RelativeAttentionProblem& p, Body&& body) {
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    const int64_t first = p.offsets[sequence], frames = p.offsets[sequence + 1] - first;
    for (int64_t head = 0; head < p.heads; ++head) {
      for (int64_t i = 0; i < frames; ++i) body(first, frames, head, i);
    }
  }
}

}  // namespace

void relative_attention(const RelativeAttentionProblem& p, float* out) {
  const int64_t d = p.head_dim, width = p.query_width();
  for_each_row(p, [&](int64_t first, int64_t frames, int64_t head, int64_t i) {
    const Row row(p, first, frames, head, i);
    const float* value = p.value + head / (p.heads / p.key_value_heads) * d;
    for (int64_t c = 0; c < d; ++c) {
      double sum = 0.0;
      for (int64_t j = row.begin; j < row.end; ++j) sum += row.probabilities[j - row.begin] * value[(first + j) * p.key_width() + c];
      out[(first + i) * width + head * d + c] = static_cast<float>(sum);
    }
  });
}

void relative_attention_backward(const RelativeAttentionProblem& p, const float* out, const float* gradient,
                                 const RelativeAttentionGradients& gradients) {
  const int64_t d = p.head_dim, width = p.query_width(), key_width = p.key_width(), total = p.offsets[p.sequences];
  std::fill_n(gradients.query, total * width, 0.0f);
  std::fill_n(gradients.key, total * key_width, 0.0f);
  std::fill_n(gradients.value, total * key_width, 0.0f);
  for_each_row(p, [&](int64_t first, int64_t frames, int64_t head, int64_t i) {
    const Row row(p, first, frames, head, i);
    const int64_t column = head * d, at = (first + i) * width + column, key_column = head / (p.heads / p.key_value_heads) * d;
    double mean = 0.0;
    for (int64_t c = 0; c < d; ++c) mean += static_cast<double>(gradient[at + c]) * out[at + c];
    for (int64_t j = row.begin; j < row.end; ++j) {
      const int64_t key = (first + j) * key_width + key_column, position = (p.origin - (i - j)) * width + column;
      const double probability = row.probabilities[j - row.begin];
      double above = 0.0;
      for (int64_t c = 0; c < d; ++c) above += static_cast<double>(gradient[at + c]) * p.value[key + c];
      const double score = p.scale * probability * (above - mean);
      for (int64_t c = 0; c < d; ++c) {
        const double content = static_cast<double>(p.query[at + c]) + p.content_bias[column + c];
        const double place = static_cast<double>(p.query[at + c]) + p.position_bias[column + c];
        gradients.value[key + c] += static_cast<float>(probability * gradient[at + c]);
        gradients.key[key + c] += static_cast<float>(score * content);
        gradients.positions[position + c] += static_cast<float>(score * place);
        gradients.query[at + c] += static_cast<float>(score * (static_cast<double>(p.key[key + c]) + p.positions[position + c]));
        gradients.content_bias[column + c] += static_cast<float>(score * p.key[key + c]);
        gradients.position_bias[column + c] += static_cast<float>(score * p.positions[position + c]);
      }
    }
  });
}

}  // namespace usmlite::cpu::reference
