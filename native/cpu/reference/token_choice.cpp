#include "cpu/token_choice.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace usmlite::cpu::reference {
namespace {

bool may_come(const TokenRules& rules, const float* bias, int64_t token) {
  for (const auto& [begin, end] : rules.forbidden) {
    if (token >= begin && token < end) return false;
  }
  return bias[token] == 0.0f;
}

/// ln(sum(e^x)) over tokens.
double log_sum(const float* scores, const std::vector<int64_t>& tokens) {
  double largest = -std::numeric_limits<double>::infinity(), sum = 0.0;
  for (const int64_t token : tokens) largest = std::max<double>(largest, scores[token]);
  if (std::isinf(largest)) return largest;
  for (const int64_t token : tokens) sum += std::exp(scores[token] - largest);
  return largest + std::log(sum);
}

}  // namespace

void choose_tokens(const float* all_scores, const float* biases, const TokenRules* all_rules, int64_t rows, int64_t vocabulary,
                   int64_t count, float* choices) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* scores = all_scores + row * vocabulary;
    const TokenRules& rules = all_rules[row];
    const float* bias = biases + rules.bias * vocabulary;
    std::vector<int64_t> all, before, from;
    bool numbers = true;
    for (int64_t token = 0; token < vocabulary; ++token) {
      numbers = numbers && scores[token] < std::numeric_limits<float>::infinity();
      all.push_back(token);
      if (may_come(rules, bias, token)) (token < rules.together ? before : from).push_back(token);
    }
    double likeliest_before = -std::numeric_limits<double>::infinity();
    for (const int64_t token : before) likeliest_before = std::max<double>(likeliest_before, scores[token]);
    if (log_sum(scores, from) > likeliest_before) before.clear();
    before.insert(before.end(), from.begin(), from.end());
    if (!numbers) before.clear();  // nothing comes before or behind NaN
    std::stable_sort(before.begin(), before.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
    const double of_all = numbers ? log_sum(scores, all) : std::numeric_limits<double>::quiet_NaN(), of_allowed = log_sum(scores, before);
    for (int64_t place = 0; place < count; ++place) {
      float* choice = choices + (row * count + place) * kTokenChoiceNumbers;
      const bool exists = place < static_cast<int64_t>(before.size()) && scores[before[place]] > -std::numeric_limits<float>::infinity();
      const double score = exists ? scores[before[place]] : 0.0;
      choice[0] = exists ? static_cast<float>(before[place]) : -1.0f;
      choice[1] = static_cast<float>(score - of_all);
      choice[2] = static_cast<float>(score - of_allowed);
    }
  }
}

}  // namespace usmlite::cpu::reference
