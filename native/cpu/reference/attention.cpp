#include "cpu/attention.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace usmlite::cpu::reference {
namespace {

using Matrix = std::vector<std::vector<double>>;

// Rows of one head of one sequence, rotated by their position.
Matrix rotated(const AttentionProblem& p, const float* rows, int64_t width, int64_t head, int64_t frames) {
  const int64_t half = p.head_dim / 2;
  Matrix result(frames, std::vector<double>(p.head_dim));
  for (int64_t t = 0; t < frames; ++t) {
    const float* from = rows + t * width + head * p.head_dim;
    for (int64_t i = 0; i < p.head_dim; ++i) result[t][i] = from[i];
    for (int64_t i = 0; p.rotary && i < half; ++i) {
      const double c = p.rotary->cosine[t * half + i], s = p.rotary->sine[t * half + i];
      result[t][i] = from[i] * c - from[i + half] * s;
      result[t][i + half] = from[i + half] * c + from[i] * s;
    }
  }
  return result;
}

// Adds the gradient of unrotated rows, given that of rotated ones.
void add_unrotated(const AttentionProblem& p, const Matrix& gradient, int64_t width, int64_t head, float* rows) {
  const int64_t half = p.head_dim / 2;
  for (size_t t = 0; t < gradient.size(); ++t) {
    float* to = rows + static_cast<int64_t>(t) * width + head * p.head_dim;
    for (int64_t i = 0; !p.rotary && i < p.head_dim; ++i) to[i] += static_cast<float>(gradient[t][i]);
    for (int64_t i = 0; p.rotary && i < half; ++i) {
      const double c = p.rotary->cosine[t * half + i], s = p.rotary->sine[t * half + i];
      to[i] += static_cast<float>(gradient[t][i] * c + gradient[t][i + half] * s);
      to[i + half] += static_cast<float>(gradient[t][i + half] * c - gradient[t][i] * s);
    }
  }
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// One head of one sequence.
struct Head {
  int64_t begin, frames;
  Matrix query, key, value;

  Head(const AttentionProblem& p, int64_t sequence, int64_t head)
      : begin(p.offsets[sequence]), frames(p.offsets[sequence + 1] - begin) {
    const int64_t source = head / (p.heads / p.key_value_heads);
    query = rotated(p, p.query + begin * p.query_width(), p.query_width(), head, frames);
    key = rotated(p, p.key + begin * p.key_width(), p.key_width(), source, frames);
    value.assign(frames, std::vector<double>(p.head_dim));
    for (int64_t t = 0; t < frames; ++t) {
      std::copy_n(p.value + (begin + t) * p.key_width() + source * p.head_dim, p.head_dim, value[t].begin());
    }
  }

  // Probabilities of query row t before dropout; returns log(sum(exp(scores))).
  double probabilities(const AttentionProblem& p, int64_t t, std::vector<double>& row) const {
    row.resize(frames);
    for (int64_t j = 0; j < frames; ++j) row[j] = p.scale * dot(query[t], key[j]);
    const double maximum = *std::max_element(row.begin(), row.end());
    double sum = 0.0;
    for (double score : row) sum += std::exp(score - maximum);
    const double log_sum = maximum + std::log(sum);
    for (double& score : row) score = std::exp(score - log_sum);
    return log_sum;
  }
};

template <typename Body>
void for_each_head(const AttentionProblem& p, const Body& body) {
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    for (int64_t head = 0; head < p.heads; ++head) body(Head(p, sequence, head), head);
  }
}

}  // namespace

void attention_forward(const AttentionProblem& p, float* out, float* log_sum) {
  for_each_head(p, [&](const Head& h, int64_t head) {
    std::vector<double> row;
    for (int64_t t = 0; t < h.frames; ++t) {
      const double normalizer = h.probabilities(p, t, row);
      if (log_sum) log_sum[(h.begin + t) * p.heads + head] = static_cast<float>(normalizer);
      for (int64_t i = 0; i < p.head_dim; ++i) {
        double sum = 0.0;
        for (int64_t j = 0; j < h.frames; ++j) {
          sum += row[j] * p.dropout.multiplier(p.dropout_index(h.begin + t, head) + j) * h.value[j][i];
        }
        out[(h.begin + t) * p.query_width() + head * p.head_dim + i] = static_cast<float>(sum);
      }
    }
  });
}

void attention_backward(const AttentionProblem& p, const float*, const float*, const float* gradient,
                        float* gradient_query, float* gradient_key, float* gradient_value) {
  const int64_t frames = p.offsets[p.sequences];
  std::fill_n(gradient_query, frames * p.query_width(), 0.0f);
  std::fill_n(gradient_key, frames * p.key_width(), 0.0f);
  std::fill_n(gradient_value, frames * p.key_width(), 0.0f);
  for_each_head(p, [&](const Head& h, int64_t head) {
    const int64_t source = head / (p.heads / p.key_value_heads);
    Matrix query(h.frames, std::vector<double>(p.head_dim, 0.0)), key = query;
    std::vector<double> row, through(h.frames);
    for (int64_t t = 0; t < h.frames; ++t) {
      h.probabilities(p, t, row);
      const float* g = gradient + (h.begin + t) * p.query_width() + head * p.head_dim;
      double mean = 0.0;
      for (int64_t j = 0; j < h.frames; ++j) {
        const double multiplier = p.dropout.multiplier(p.dropout_index(h.begin + t, head) + j);
        float* value = gradient_value + (h.begin + j) * p.key_width() + source * p.head_dim;
        through[j] = 0.0;
        for (int64_t i = 0; i < p.head_dim; ++i) {
          through[j] += multiplier * g[i] * h.value[j][i];
          value[i] += static_cast<float>(row[j] * multiplier * g[i]);
        }
        mean += row[j] * through[j];
      }
      for (int64_t j = 0; j < h.frames; ++j) {
        const double score = p.scale * row[j] * (through[j] - mean);
        for (int64_t i = 0; i < p.head_dim; ++i) {
          query[t][i] += score * h.key[j][i];
          key[j][i] += score * h.query[t][i];
        }
      }
    }
    add_unrotated(p, query, p.query_width(), head, gradient_query + h.begin * p.query_width());
    add_unrotated(p, key, p.key_width(), source, gradient_key + h.begin * p.key_width());
  });
}

}  // namespace usmlite::cpu::reference
