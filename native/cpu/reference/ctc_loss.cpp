#include "cpu/ctc_loss.hpp"

#include <cmath>
#include <limits>
#include <vector>

namespace usmlite::cpu::reference {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

double log_add(double a, double b) {
  const double high = std::max(a, b);
  return high == kNever ? kNever : high + std::log(std::exp(a - high) + std::exp(b - high));
}

// One sequence: formulas 6 to 16 of the paper, in log space. States 0..2L: blank, label 1, blank, .. label L, blank.
double sequence_loss(const float* logits, int64_t frames, int64_t vocabulary, const int32_t* labels, int64_t count,
                     int32_t blank, float* gradient) {
  std::vector<double> log_softmax(static_cast<size_t>(frames * vocabulary));
  for (int64_t t = 0; t < frames; ++t) {
    double normalizer = kNever;
    for (int64_t v = 0; v < vocabulary; ++v) {
      if (!std::isfinite(logits[t * vocabulary + v])) {
        const float nan = std::numeric_limits<float>::quiet_NaN();
        if (gradient) std::fill(gradient, gradient + frames * vocabulary, nan);
        return nan;
      }
      normalizer = log_add(normalizer, logits[t * vocabulary + v]);
    }
    for (int64_t v = 0; v < vocabulary; ++v) log_softmax[t * vocabulary + v] = logits[t * vocabulary + v] - normalizer;
  }
  if (gradient) std::fill(gradient, gradient + frames * vocabulary, 0.0f);
  if (frames < ctc_minimum_frames(labels, count)) return std::numeric_limits<double>::infinity();
  if (frames == 0) return 0;

  const int64_t states = 2 * count + 1;
  const auto label = [&](int64_t s) { return s % 2 ? labels[s / 2] : blank; };
  const auto may_skip_to = [&](int64_t s) { return s >= 2 && label(s) != blank && label(s) != label(s - 2); };
  const auto log_p = [&](int64_t t, int64_t s) { return log_softmax[t * vocabulary + label(s)]; };

  std::vector<double> alpha(static_cast<size_t>(frames * states), kNever);  // paths up to and including frame t
  for (int64_t s = 0; s < std::min<int64_t>(states, 2); ++s) alpha[s] = log_p(0, s);
  for (int64_t t = 1; t < frames; ++t) {
    const double* before = &alpha[(t - 1) * states];
    for (int64_t s = 0; s < states; ++s) {
      double sum = before[s];
      if (s >= 1) sum = log_add(sum, before[s - 1]);
      if (may_skip_to(s)) sum = log_add(sum, before[s - 2]);
      alpha[t * states + s] = sum + log_p(t, s);
    }
  }
  const double* last = &alpha[(frames - 1) * states];
  const double likelihood = states > 1 ? log_add(last[states - 1], last[states - 2]) : last[0];
  if (!gradient) return -likelihood;

  std::vector<double> beta(static_cast<size_t>(states), kNever);  // paths from after frame t to the end
  for (int64_t s = std::max<int64_t>(states - 2, 0); s < states; ++s) beta[s] = 0;
  for (int64_t t = frames - 1; t >= 0; --t) {
    float* row = gradient + t * vocabulary;
    for (int64_t v = 0; v < vocabulary; ++v) row[v] = static_cast<float>(std::exp(log_softmax[t * vocabulary + v]));
    for (int64_t s = 0; s < states; ++s) {
      row[label(s)] -= static_cast<float>(std::exp(alpha[t * states + s] + beta[s] - likelihood));
    }
    for (int64_t s = 0; s < states; ++s) {
      double sum = beta[s] + log_p(t, s);
      if (s + 1 < states) sum = log_add(sum, beta[s + 1] + log_p(t, s + 1));
      if (s + 2 < states && may_skip_to(s + 2)) sum = log_add(sum, beta[s + 2] + log_p(t, s + 2));
      beta[s] = sum;  // states above s are still those of frame t
    }
  }
  return -likelihood;
}

}  // namespace

void ctc_loss(const CtcBatch& batch, float* losses, float* gradient) {
  for (int64_t i = 0; i < batch.sequences; ++i) {
    const int64_t first = batch.offsets[i] * batch.vocabulary;
    losses[i] = static_cast<float>(sequence_loss(
        batch.logits + first, batch.offsets[i + 1] - batch.offsets[i], batch.vocabulary,
        batch.targets + batch.target_offsets[i], batch.target_offsets[i + 1] - batch.target_offsets[i], batch.blank,
        gradient ? gradient + first : nullptr));
  }
}

void scale_sequences(float* x, const int32_t* offsets, int64_t sequences, int64_t columns, const float* factors) {
  for (int64_t i = 0; i < sequences; ++i) {
    for (int64_t j = offsets[i] * columns; j < offsets[i + 1] * columns; ++j) x[j] *= factors[i];
  }
}

}  // namespace usmlite::cpu::reference
