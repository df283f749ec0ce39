// The recursions run in log space over vectors of states. Each frame's values are taken relative to the largest of
// the frame before, so float32 keeps its precision however long the sequence is.
#include "cpu/ctc_loss.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kLanes = Vector::kLanes;
// Logarithm of an impossible state. Finite, so that differences of two are not NaN; below any sum of possible ones.
constexpr float kNever = -1e30f;
constexpr float kLowestLogProbability = -1e20f;
constexpr int64_t kSoftmaxGrain = 32;  // frames

/// ln x for x in 1..3 (Cephes' polynomial after one or two halvings), absolute error below 2e-7.
Vector logarithm_of_small(Vector x) {
  const Vector root = Vector::all(1.41421356f), ln2 = Vector::all(0.693147181f), half = Vector::all(0.5f);
  Vector offset = select_greater(x, root, ln2, Vector::zero());
  x = select_greater(x, root, x * half, x);
  offset = offset + select_greater(x, root, ln2, Vector::zero());
  x = select_greater(x, root, x * half, x) - Vector::all(1.0f);
  Vector p = Vector::all(7.0376836292e-2f);
  for (float c : {-1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f, -1.6668057665e-1f,
                  2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f}) {
    p = multiply_add(p, x, Vector::all(c));
  }
  const Vector square = x * x;
  return multiply_add(p * x, square, multiply_add(square, Vector::all(-0.5f), x)) + offset;
}

Vector log_add(Vector a, Vector b, Vector c) {
  const Vector high = maximum(maximum(a, b), c);
  return high + logarithm_of_small(exponential(a - high) + exponential(b - high) + exponential(c - high));
}

/// ln of the softmax denominator of one frame; writes the softmax when `probabilities` is not null.
/// NaN when a logit is not finite.
float normalize_frame(const float* logits, int64_t vocabulary, float* probabilities) {
  Vector high = Vector::all(-std::numeric_limits<float>::infinity()), finite = Vector::zero();
  for_each_vector(vocabulary, [&](int64_t v, int64_t lanes) {
    const Vector x = Vector::load(logits + v, lanes);
    finite = multiply_add(x, Vector::zero(), finite);  // infinity * 0 is NaN
    if (lanes == kLanes) high = maximum(high, x);
  });
  float largest = high.maximum();
  for (int64_t v = vocabulary / kLanes * kLanes; v < vocabulary; ++v) largest = std::max(largest, logits[v]);
  if (finite.sum() != 0) return std::numeric_limits<float>::quiet_NaN();

  const Vector shift = Vector::all(largest);
  float sum = 0;
  for_each_vector(vocabulary, [&](int64_t v, int64_t lanes) {
    const Vector e = exponential(Vector::load(logits + v, lanes) - shift);
    if (probabilities) e.store(probabilities + v, lanes);
    if (lanes == kLanes) {
      sum += e.sum();
    } else {
      float tail[kLanes];
      e.store(tail);
      for (int64_t lane = 0; lane < lanes; ++lane) sum += tail[lane];
    }
  });
  if (probabilities) {
    const Vector inverse = Vector::all(1.0f / sum);
    for_each_vector(vocabulary, [&](int64_t v, int64_t lanes) {
      (Vector::load(probabilities + v, lanes) * inverse).store(probabilities + v, lanes);
    });
  }
  return largest + std::log(sum);
}

/// One sequence with its alignment states 0..2L: blank, label 1, blank, .. label L, blank. Rows of states are padded
/// to whole vectors with impossible ones.
class Sequence {
 public:
  Sequence(const CtcBatch& batch, int64_t index, const float* normalizers)
      : logits_(batch.logits + batch.offsets[index] * batch.vocabulary),
        normalizers_(normalizers + batch.offsets[index]),
        frames_(batch.offsets[index + 1] - batch.offsets[index]),
        vocabulary_(batch.vocabulary),
        labels_(batch.targets + batch.target_offsets[index]),
        count_(batch.target_offsets[index + 1] - batch.target_offsets[index]),
        blank_(batch.blank),
        states_(2 * count_ + 1),
        width_((states_ + kLanes - 1) / kLanes * kLanes) {}

  /// Returns the loss; `gradient` (frames, vocabulary), when not null, holds the softmax and loses the posterior.
  float loss(float* gradient) const {
    for (int64_t t = 0; t < frames_; ++t) {
      if (!std::isfinite(normalizers_[t])) return fill(gradient, std::numeric_limits<float>::quiet_NaN());
    }
    if (frames_ < ctc_minimum_frames(labels_, count_)) {
      fill(gradient, 0);
      return std::numeric_limits<float>::infinity();
    }
    if (frames_ == 0) return 0;
    Scratch<float> log_p(frames_ * width_);
    for (int64_t t = 0; t < frames_; ++t) gather(t, log_p.data() + t * width_);
    Scratch<float> alpha(frames_ * stride());
    const float loss = forward(log_p.data(), alpha.data());
    if (gradient) backward(log_p.data(), alpha.data(), gradient);
    return loss;
  }

 private:
  // A row of alpha has kLanes impossible states in front, so that s - 1 and s - 2 need no special case.
  int64_t stride() const { return width_ + kLanes; }

  float fill(float* gradient, float value) const {
    if (gradient) std::fill(gradient, gradient + frames_ * vocabulary_, value);
    return value;
  }

  void gather(int64_t t, float* log_p) const {
    const float* row = logits_ + t * vocabulary_;
    const auto log_probability = [&](int32_t label) { return std::max(row[label] - normalizers_[t], kLowestLogProbability); };
    const float blank = log_probability(blank_);
    for (int64_t i = 0; i < count_; ++i) {
      log_p[2 * i] = blank;
      log_p[2 * i + 1] = log_probability(labels_[i]);
    }
    log_p[states_ - 1] = blank;
    std::fill(log_p + states_, log_p + width_, kNever);
  }

  // 0 where a path may come to state s from s - 2, else kNever.
  void skips(float* skip) const {
    std::fill(skip, skip + width_ + kLanes, kNever);
    for (int64_t i = 1; i < count_; ++i) {
      if (labels_[i] != labels_[i - 1]) skip[2 * i + 1] = 0;
    }
  }

  // alpha (frames, stride): logarithm of all paths up to and including frame t, each row up to a constant.
  float forward(const float* log_p, float* alpha) const {
    Scratch<float> skip(width_ + kLanes);
    skips(skip.data());
    std::fill(alpha, alpha + stride(), kNever);
    std::copy(log_p, log_p + std::min<int64_t>(states_, 2), alpha + kLanes);
    double scale = 0;  // sum of the constants
    float largest = *std::max_element(alpha + kLanes, alpha + kLanes + width_);
    for (int64_t t = 1; t < frames_; ++t) {
      const float* before = alpha + (t - 1) * stride() + kLanes;
      float* now = alpha + t * stride() + kLanes;
      std::fill(now - kLanes, now, kNever);
      const Vector shift = Vector::all(largest);
      scale += largest;
      Vector high = Vector::all(kNever);
      for (int64_t s = 0; s < width_; s += kLanes) {
        const Vector sum = log_add(Vector::load(before + s), Vector::load(before + s - 1),
                                   Vector::load(before + s - 2) + Vector::load(skip.data() + s));
        const Vector value = sum - shift + Vector::load(log_p + t * width_ + s);
        value.store(now + s);
        high = maximum(high, value);
      }
      largest = high.maximum();
    }
    const float* last = alpha + (frames_ - 1) * stride() + kLanes + states_ - 1;
    const double end = last[0], before_end = states_ > 1 ? last[-1] : kNever;
    const double high = std::max(end, before_end);
    return static_cast<float>(-(scale + high + std::log(std::exp(end - high) + std::exp(before_end - high))));
  }

  void backward(const float* log_p, const float* alpha, float* gradient) const {
    Scratch<float> skip(width_ + kLanes), beta(width_), next(width_ + kLanes), posterior(width_);
    skips(skip.data());
    std::fill(beta.data(), beta.data() + width_, kNever);
    std::fill(&beta[std::max<int64_t>(states_ - 2, 0)], &beta[0] + states_, 0.0f);
    std::fill(next.data() + width_, next.data() + width_ + kLanes, kNever);
    for (int64_t t = frames_ - 1; t >= 0; --t) {
      subtract_posterior(alpha + t * stride() + kLanes, beta.data(), posterior.data(), gradient + t * vocabulary_);
      if (t == 0) break;
      // next[s]: paths that are in state s at frame t, from there to the end.
      float largest = kNever;
      for (int64_t s = 0; s < width_; s += kLanes) {
        const Vector value = Vector::load(log_p + t * width_ + s) + Vector::load(&beta[s]);
        value.store(&next[s]);
        largest = std::max(largest, value.maximum());
      }
      const Vector shift = Vector::all(largest);
      for (int64_t s = 0; s < width_; s += kLanes) {
        const Vector sum = log_add(Vector::load(&next[s]), Vector::load(&next[s + 1]),
                                   Vector::load(&next[s + 2]) + Vector::load(&skip[s + 2]));
        (sum - shift).store(&beta[s]);
      }
    }
  }

  // The posterior of state s is alpha * beta, normalized over the states of the frame.
  void subtract_posterior(const float* alpha, const float* beta, float* posterior, float* gradient) const {
    Vector high = Vector::all(2 * kNever);
    for (int64_t s = 0; s < width_; s += kLanes) {
      const Vector product = Vector::load(alpha + s) + Vector::load(beta + s);
      product.store(posterior + s);
      high = maximum(high, product);
    }
    const Vector shift = Vector::all(high.maximum());
    Vector sum = Vector::zero();
    for (int64_t s = 0; s < width_; s += kLanes) {
      const Vector e = exponential(Vector::load(posterior + s) - shift);
      e.store(posterior + s);
      sum = sum + e;
    }
    const float inverse = 1.0f / sum.sum();
    float blank = posterior[0];
    for (int64_t i = 0; i < count_; ++i) {
      gradient[labels_[i]] -= posterior[2 * i + 1] * inverse;
      blank += posterior[2 * i + 2];
    }
    gradient[blank_] -= blank * inverse;
  }

  const float* logits_;
  const float* normalizers_;
  int64_t frames_;
  int64_t vocabulary_;
  const int32_t* labels_;
  int64_t count_;
  int32_t blank_;
  int64_t states_;
  int64_t width_;
};

}  // namespace

void ctc_loss(const CtcBatch& batch, float* losses, float* gradient) {
  Scratch<float> normalizers(batch.frames);
  parallel_for(batch.frames, kSoftmaxGrain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t row = t * batch.vocabulary;
      normalizers[t] = normalize_frame(batch.logits + row, batch.vocabulary, gradient ? gradient + row : nullptr);
    }
  });
  parallel_dynamic(batch.sequences, [&](int64_t index) {
    float* rows = gradient ? gradient + batch.offsets[index] * batch.vocabulary : nullptr;
    losses[index] = Sequence(batch, index, normalizers.data()).loss(rows);
  });
}

void scale_sequences(float* x, const int32_t* offsets, int64_t sequences, int64_t columns, const float* factors) {
  parallel_dynamic(sequences, [&](int64_t index) {
    const Vector factor = Vector::all(factors[index]);
    float* rows = x + offsets[index] * columns;
    for_each_vector((offsets[index + 1] - offsets[index]) * columns, [&](int64_t i, int64_t lanes) {
      (Vector::load(rows + i, lanes) * factor).store(rows + i, lanes);
    });
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
