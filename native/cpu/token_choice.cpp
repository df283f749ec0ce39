#include "cpu/token_choice.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr float kExcluded = -std::numeric_limits<float>::infinity();

/// Scores of a row, and what is added to them.
struct Row {
  const float* scores;
  const float* bias;
  const TokenRules& rules;

  Vector load(int64_t i, int64_t lanes) const {
    return Vector::load(scores + i, lanes) + Vector::load(bias + i, lanes);
  }
  float at(int64_t i) const { return scores[i] + bias[i]; }

  /// Calls part(begin, end) for what the rules leave of [begin, end).
  template <typename Part> void for_each_part(int64_t begin, int64_t end, Part&& part) const {
    while (begin < end) {
      int64_t next = end;
      bool forbidden = false;
      for (const auto& [first, last] : rules.forbidden) {
        if (first >= last) continue;
        if (begin >= first && begin < last) {
          begin = last;
          forbidden = true;
        } else if (first > begin) {
          next = std::min<int64_t>(next, first);
        }
      }
      if (forbidden) continue;
      part(begin, next);
      begin = next;
    }
  }

  float largest(int64_t begin, int64_t end) const {
    Vector high = Vector::all(kExcluded);
    for_each_part(begin, end, [&](int64_t first, int64_t last) {
      for_each_vector(last - first, [&](int64_t i, int64_t lanes) {
        high = maximum(load(first + i, lanes).head(lanes, Vector::all(kExcluded)), high);
      });
    });
    return high.maximum();
  }

  /// ln(sum(e^x)) over [begin, end), of which `shift` is the largest.
  float log_sum(int64_t begin, int64_t end, float shift) const {
    if (shift == kExcluded) return kExcluded;
    Vector sum = Vector::zero();
    for_each_part(begin, end, [&](int64_t first, int64_t last) {
      for_each_vector(last - first, [&](int64_t i, int64_t lanes) {
        sum = sum + exponential(load(first + i, lanes) - Vector::all(shift)).head(lanes, Vector::zero());
      });
    });
    return shift + std::log(sum.sum());
  }
};

float log_sum_of_all(const float* scores, int64_t count) {
  Vector high = Vector::all(kExcluded), sum = Vector::zero();
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    high = maximum(Vector::load(scores + i, lanes).head(lanes, Vector::all(kExcluded)), high);
  });
  const float largest = high.maximum();
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    sum = sum + exponential(Vector::load(scores + i, lanes) - Vector::all(largest)).head(lanes, Vector::zero());
  });
  return largest + std::log(sum.sum());
}

float log_add(float a, float b) {
  const float high = std::max(a, b), low = std::min(a, b);
  return high == kExcluded ? kExcluded : high + std::log1p(std::exp(low - high));
}

void choose(const Row& row, int64_t vocabulary, int64_t count, float* choices) {
  for (int64_t i = 0; i < count * kTokenChoiceNumbers; i += kTokenChoiceNumbers) choices[i] = -1.0f;
  const float of_all = log_sum_of_all(row.scores, vocabulary);
  const int64_t together = std::clamp<int64_t>(row.rules.together, 0, vocabulary);
  const float before = row.largest(0, together), from = row.largest(together, vocabulary);
  const float sum_from = row.log_sum(together, vocabulary, from);
  const bool comes_alone = sum_from > before;
  const float of_allowed = comes_alone ? sum_from : log_add(row.log_sum(0, together, before), sum_from);
  const auto place_of = [&](int64_t place) { return choices + place * kTokenChoiceNumbers; };
  int64_t found = 0;
  float least = kExcluded;  // what a token must be above to be among those found
  if (!std::isnan(of_all)) {
    row.for_each_part(comes_alone ? together : 0, vocabulary, [&](int64_t begin, int64_t end) {
      for (int64_t token = begin; token < end; ++token) {
        const float score = row.at(token);
        if (!(score > least)) continue;
        int64_t place = std::min(found, count - 1);
        for (; place > 0 && score > place_of(place - 1)[1]; --place) std::copy_n(place_of(place - 1), 2, place_of(place));
        place_of(place)[0] = static_cast<float>(token);
        place_of(place)[1] = score;
        found = std::min(found + 1, count);
        if (found == count) least = place_of(count - 1)[1];
      }
    });
  }
  for (int64_t place = 0; place < count; ++place) {
    float* choice = place_of(place);
    const float score = place < found ? choice[1] : 0.0f;
    choice[1] = score - of_all;
    choice[2] = score - of_allowed;
  }
}

}  // namespace

void choose_tokens(const float* scores, const float* bias, const TokenRules* rules, int64_t rows, int64_t vocabulary, int64_t count,
                   float* choices) {
  parallel_for(rows, std::max<int64_t>(1, 8192 / vocabulary), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const Row of_row{scores + row * vocabulary, bias + rules[row].bias * vocabulary, rules[row]};
      choose(of_row, vocabulary, count, choices + row * count * kTokenChoiceNumbers);
    }
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
