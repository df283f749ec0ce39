#include "cpu/cached_attention.hpp"

#include <algorithm>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/dot.hpp"
#include "cpu/running_softmax.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// sum += factor * x
void add_scaled(float factor, const float* x, float* sum, int64_t count) {
  const Vector scale = Vector::all(factor);
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    multiply_add(scale, Vector::load(x + i, lanes), Vector::load(sum + i, lanes)).store(sum + i, lanes);
  });
}

// Multiplications below which a thread that sleeps would wake too late to help.
constexpr int64_t kWorthAnotherThread = 1 << 16;

/// Calls body(sequence, first column of a head) for every head of every sequence.
template <typename Body> void for_each_head(const CachedAttentionProblem& p, Body&& body) {
  int64_t work = 0;
  for (int64_t i = 0; i < p.sequences; ++i) {
    work += 2 * (p.query_offsets[i + 1] - p.query_offsets[i]) * (p.key_offsets[i + 1] - p.key_offsets[i]) * p.width();
  }
  const auto unit = [&](int64_t index) { body(index / p.heads, index % p.heads * p.head_dim); };
  if (work >= kWorthAnotherThread) return parallel_dynamic(p.sequences * p.heads, unit);
  for (int64_t index = 0; index < p.sequences * p.heads; ++index) unit(index);
}

}  // namespace

void cached_attention(const CachedAttentionProblem& p, float* out) {
  // Few queries: there is no copy of keys to share, so every head of every sequence reads them where they lie.
  for_each_head(p, [&](int64_t sequence, int64_t column) {
    const int64_t first = p.query_offsets[sequence], queries = p.query_offsets[sequence + 1] - first;
    const int64_t begin = p.key_offsets[sequence], keys = p.key_offsets[sequence + 1] - begin;
    if (queries == 0) return;
    Scratch<float> scores(static_cast<size_t>(std::max<int64_t>(keys, 1)));
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t visible = p.visible(i, queries, keys);
      const float* query = p.query + (first + i) * p.width() + column;
      for (int64_t j = 0; j < visible; ++j) {
        scores[j] = p.scale * dot(query, p.key + p.row(begin + j) * p.width() + column, p.head_dim);
      }
      RunningSoftmax softmax;
      softmax.add(scores.data(), visible);
      const float factor = 1.0f / softmax.sum;
      float* to = out + (first + i) * p.width() + column;
      for_each_vector(p.head_dim, [&](int64_t c, int64_t lanes) {
        Vector sum = Vector::zero();
        for (int64_t j = 0; j < visible; ++j) {
          sum = multiply_add(Vector::all(scores[j]), Vector::load(p.value + p.row(begin + j) * p.width() + column + c, lanes), sum);
        }
        (Vector::all(factor) * sum).store(to + c, lanes);
      });
    }
  });
}

void cached_attention_backward(const CachedAttentionProblem& p, const float* gradient, float* gradient_query, float* gradient_key,
                               float* gradient_value) {
  const int64_t width = p.width(), d = p.head_dim, rows = p.key_offsets[p.sequences];
  std::fill_n(gradient_query, p.query_offsets[p.sequences] * width, 0.0f);
  std::fill_n(gradient_key, rows * width, 0.0f);
  std::fill_n(gradient_value, rows * width, 0.0f);
  // A head of a sequence has columns of its own in every gradient.
  for_each_head(p, [&](int64_t sequence, int64_t column) {
    const int64_t first = p.query_offsets[sequence], queries = p.query_offsets[sequence + 1] - first;
    const int64_t begin = p.key_offsets[sequence], keys = p.key_offsets[sequence + 1] - begin;
    Scratch<float> probabilities(static_cast<size_t>(std::max<int64_t>(keys, 1))), slopes(static_cast<size_t>(std::max<int64_t>(keys, 1)));
    const int64_t at = begin * width + column;
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t visible = p.visible(i, queries, keys), row = (first + i) * width + column;
      const float *query = p.query + row, *upstream = gradient + row;
      for (int64_t j = 0; j < visible; ++j) probabilities[j] = p.scale * dot(query, p.key + at + j * width, d);
      RunningSoftmax softmax;
      softmax.add(probabilities.data(), visible);
      const float share = 1.0f / softmax.sum;
      float mean = 0.0f;  // sum_j p_j g_j
      for (int64_t j = 0; j < visible; ++j) {
        probabilities[j] *= share;
        slopes[j] = dot(upstream, p.value + at + j * width, d);
        mean += probabilities[j] * slopes[j];
        add_scaled(probabilities[j], upstream, gradient_value + at + j * width, d);
      }
      for (int64_t j = 0; j < visible; ++j) {
        const float slope = p.scale * probabilities[j] * (slopes[j] - mean);
        add_scaled(slope, p.key + at + j * width, gradient_query + row, d);
        add_scaled(slope, query, gradient_key + at + j * width, d);
      }
    }
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
