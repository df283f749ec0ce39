// The joint network is the work: four matrix products over all pairs of frames and labels. They run on slabs of rows; the
// logits of the backward pass are computed again rather than kept, for those pairs that paths of some weight pass through.
#include "cpu/transducer_loss.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "core/transducer_distillation.hpp"
#include "core/transducer_lattice.hpp"
#include "cpu/matmul.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kSlabFloats = 1 << 20;  // of logits held at a time, 4 MB
constexpr int64_t kMostRows = 2048;
constexpr int64_t kLogitGrain = 16;         // rows per thread
constexpr int64_t kColumnGrain = 64;
// Pairs with a smaller share of all paths are left out of the gradient: far below the rounding of the others.
constexpr double kSmallestShare = 1e-9;

int64_t rows_of_slab(const TransducerBatch& p) { return std::clamp<int64_t>(kSlabFloats / p.outputs(), 1, kMostRows); }

// hidden = relu(frame + prediction)
void combine(const TransducerBatch& p, const float* frame, const float* prediction, float* hidden) {
  for_each_vector(p.joint, [&](int64_t j, int64_t lanes) {
    const Vector sum = Vector::load(frame + j, lanes) + Vector::load(prediction + j, lanes);
    maximum(Vector::zero(), sum).store(hidden + j, lanes);  // NaN stays: max gives its second operand
  });
}

float log_sum(const float* x, int64_t count) {
  const Vector lowest = Vector::all(-std::numeric_limits<float>::infinity());
  Vector high = lowest, finite = Vector::zero();
  for_each_vector(count, [&](int64_t v, int64_t lanes) {
    const Vector value = Vector::load(x + v, lanes);
    finite = multiply_add(value, Vector::zero(), finite);  // infinity * 0 is NaN
    high = maximum(high, value.head(lanes, lowest));
  });
  if (finite.sum() != 0) return std::numeric_limits<float>::quiet_NaN();
  const float largest = high.maximum();
  const Vector shift = Vector::all(largest);
  Vector sum = Vector::zero();
  for_each_vector(count, [&](int64_t v, int64_t lanes) {
    sum = sum + exponential(Vector::load(x + v, lanes) - shift).head(lanes, Vector::zero());
  });
  return largest + std::log(sum.sum());
}

// x becomes softmax(x)
void softmax_logits(float* x, int64_t count) {
  const Vector shift = Vector::all(log_sum(x, count));
  for_each_vector(count, [&](int64_t v, int64_t lanes) { exponential(Vector::load(x + v, lanes) - shift).store(x + v, lanes); });
}

void scale(float* x, int64_t count, float factor) {
  for_each_vector(count, [&](int64_t v, int64_t lanes) { (Vector::all(factor) * Vector::load(x + v, lanes)).store(x + v, lanes); });
}

// One sequence, some of its cells at a time.
class Utterance {
 public:
  /// @param teacher lattice of this sequence, or null
  Utterance(const TransducerBatch& p, int64_t index, const float* lattice, const float* teacher)
      : p_(p), labels_(p.labels(index)), count_(p.label_count(index)), frames_(p.frames + p.offsets[index] * p.joint),
        predictions_(p.predictions + p.prediction_offsets[index] * p.joint), cells_(p.cell_count(index)),
        paths_(p.frame_count(index), count_, p.durations, p.duration_count), lattice_(lattice), teacher_(teacher) {
    if (teacher) shares_ = teacher_shares(p.frame_count(index), count_, p.durations, p.duration_count, teacher);
  }

  float loss(float* lattice) {
    const int64_t most = std::min(rows_of_slab(p_), cells_);
    Scratch<float> hidden(most * p_.joint), logits(most * p_.outputs());
    std::vector<int64_t> rows(most);
    for (int64_t begin = 0; begin < cells_; begin += most) {
      const int64_t count = std::min(most, cells_ - begin);
      for (int64_t r = 0; r < count; ++r) rows[r] = begin + r;
      joint(rows.data(), count, hidden.data(), logits.data());
      parallel_for(count, kLogitGrain, [&](int64_t from, int64_t to) {
        for (int64_t r = from; r < to; ++r) keep(begin + r, logits.data() + r * p_.outputs(), lattice + (begin + r) * p_.kept());
      });
    }
    for (int64_t i = 0; i < cells_ * p_.kept(); ++i) {
      if (!std::isfinite(lattice[i])) return std::numeric_limits<float>::quiet_NaN();
    }
    return static_cast<float>(-forward());
  }

  float divergence(const float* lattice) const {
    double sum = 0.0;
    for (int64_t cell = 0; cell < cells_; ++cell) {
      if (shares_[cell] > 0.0f)
        sum += shares_[cell] * collapsed_divergence(collapsed(lattice, cell, p_.undernormalization), collapsed(teacher_, cell, 0.0f));
    }
    return static_cast<float>(sum);
  }

  void backward(float factor, float divergence_factor, float* frames, float* predictions, const TransducerGradients& gradients) {
    forward();
    const auto posteriors = paths_.backward(tokens_.data(), durations_.data(), duration_posteriors_);
    std::vector<int64_t> live;
    for (int64_t cell = 0; cell < cells_; ++cell) {
      const bool taught = teacher_ && shares_[cell] > kSmallestShare;
      if (taught || posteriors[cell].blank + posteriors[cell].label > kSmallestShare) live.push_back(cell);
    }
    const int64_t total = static_cast<int64_t>(live.size()), most = std::min(rows_of_slab(p_), total);
    Scratch<float> hidden(most * p_.joint), logits(most * p_.outputs()), hidden_gradient(most * p_.joint);
    for (int64_t begin = 0; begin < total; begin += most) {
      const int64_t count = std::min(most, total - begin);
      const int64_t* rows = live.data() + begin;
      joint(rows, count, hidden.data(), logits.data());
      parallel_for(count, kLogitGrain, [&](int64_t from, int64_t to) {
        for (int64_t r = from; r < to; ++r) logit_gradient(rows[r], posteriors[rows[r]], factor, divergence_factor, logits.data() + r * p_.outputs());
      });
      add_columns(logits.data(), count, gradients.bias);
      matmul(true, false, p_.outputs(), p_.joint, count, logits.data(), p_.outputs(), hidden.data(), p_.joint, 1.0f, gradients.weight, p_.joint);
      matmul(false, false, count, p_.joint, p_.outputs(), logits.data(), p_.outputs(), p_.weight, p_.joint, 0.0f, hidden_gradient.data(), p_.joint);
      scatter(rows, count, hidden.data(), hidden_gradient.data(), frames, predictions);
    }
  }

 private:
  int64_t frame_of(int64_t cell) const { return cell / (count_ + 1); }
  int64_t label_of(int64_t cell) const { return cell % (count_ + 1); }

  void joint(const int64_t* cells, int64_t count, float* hidden, float* logits) const {
    parallel_for(count, kLogitGrain, [&](int64_t from, int64_t to) {
      for (int64_t r = from; r < to; ++r) {
        combine(p_, frames_ + frame_of(cells[r]) * p_.joint, predictions_ + label_of(cells[r]) * p_.joint, hidden + r * p_.joint);
      }
    });
    MatmulEpilogue epilogue;
    epilogue.bias = p_.bias;
    matmul(false, true, count, p_.outputs(), p_.joint, hidden, p_.joint, p_.weight, p_.joint, 0.0f, logits, p_.outputs(), epilogue);
  }

  void keep(int64_t cell, const float* logits, float* to) const {
    const float normalizer = log_sum(logits, p_.vocabulary) + p_.undernormalization;
    const int64_t u = label_of(cell);
    to[0] = logits[p_.blank] - normalizer;
    to[1] = u < count_ ? logits[labels_[u]] - normalizer : 0.0f;
    if (p_.duration_count == 0) return;
    const float duration_normalizer = log_sum(logits + p_.vocabulary, p_.duration_count);
    for (int64_t d = 0; d < p_.duration_count; ++d) to[2 + d] = logits[p_.vocabulary + d] - duration_normalizer;
  }

  double forward() {
    tokens_.resize(cells_);
    durations_.resize(cells_ * p_.duration_count);
    for (int64_t cell = 0; cell < cells_; ++cell) {
      const float* from = lattice_ + cell * p_.kept();
      tokens_[cell] = {from[0], from[1]};
      std::copy_n(from + 2, p_.duration_count, durations_.data() + cell * p_.duration_count);
    }
    return paths_.forward(tokens_.data(), durations_.data());
  }

  CollapsedCell collapsed(const float* lattice, int64_t cell, float undernormalization) const {
    return {lattice + cell * p_.kept(), label_of(cell) < count_, p_.duration_count, undernormalization};
  }

  // Softmax times the share of paths that pass, minus the shares of what they take; and, by the cell's share of the lesson, softmax
  // minus what the teacher says, whose rest is spread over the tokens as the student spreads its own.
  void logit_gradient(int64_t cell, const TransducerLattice::Posterior& posterior, float factor, float divergence_factor, float* logits) const {
    const float share = factor * static_cast<float>(posterior.blank + posterior.label);
    const float lesson = teacher_ ? divergence_factor * shares_[cell] : 0.0f;
    const bool has_label = label_of(cell) < count_;
    const int32_t label = has_label ? labels_[label_of(cell)] : p_.blank;
    softmax_logits(logits, p_.vocabulary);
    const float blank_probability = logits[p_.blank], label_probability = has_label ? logits[label] : 0.0f;
    const CollapsedCell teacher = collapsed(teacher_ ? teacher_ : lattice_, cell, 0.0f);
    const float rest = std::max(1.0f - blank_probability - label_probability, 1e-6f);
    scale(logits, p_.vocabulary, share + lesson * (1.0f - (teacher_ ? static_cast<float>(teacher.rest()) / rest : 0.0f)));
    const auto take = [&](float probability, double posterior_share, double taught) {
      return (share + lesson) * probability - factor * static_cast<float>(posterior_share) - lesson * static_cast<float>(taught);
    };
    if (has_label) logits[label] = take(label_probability, posterior.label, teacher.label());
    logits[p_.blank] = take(blank_probability, posterior.blank, teacher.blank());
    if (p_.duration_count == 0) return;
    float* durations = logits + p_.vocabulary;
    softmax_logits(durations, p_.duration_count);
    const float* taken = duration_posteriors_.data() + cell * p_.duration_count;
    for (int64_t d = 0; d < p_.duration_count; ++d) durations[d] = take(durations[d], taken[d], teacher.duration(d));
  }

  void add_columns(const float* gradient, int64_t count, float* sums) const {
    parallel_for(p_.outputs(), kColumnGrain, [&](int64_t from, int64_t to) {
      for (int64_t r = 0; r < count; ++r) {
        const float* row = gradient + r * p_.outputs();
        for_each_vector(to - from, [&](int64_t i, int64_t lanes) {
          (Vector::load(sums + from + i, lanes) + Vector::load(row + from + i, lanes)).store(sums + from + i, lanes);
        });
      }
    });
  }

  // Through relu to frames and predictions. Threads take columns, so that sums have one order.
  void scatter(const int64_t* cells, int64_t count, const float* hidden, const float* gradient, float* frames, float* predictions) const {
    parallel_for(p_.joint, kColumnGrain, [&](int64_t from, int64_t to) {
      for (int64_t r = 0; r < count; ++r) {
        float* frame = frames + frame_of(cells[r]) * p_.joint + from;
        float* prediction = predictions + label_of(cells[r]) * p_.joint + from;
        const int64_t at = r * p_.joint + from;
        for_each_vector(to - from, [&](int64_t i, int64_t lanes) {
          const Vector passed =
              select_greater(Vector::load(hidden + at + i, lanes), Vector::zero(), Vector::load(gradient + at + i, lanes), Vector::zero());
          (Vector::load(frame + i, lanes) + passed).store(frame + i, lanes);
          (Vector::load(prediction + i, lanes) + passed).store(prediction + i, lanes);
        });
      }
    });
  }

  const TransducerBatch& p_;
  const int32_t* labels_;
  const int64_t count_;  // of labels
  const float* frames_;
  const float* predictions_;
  const int64_t cells_;
  TransducerLattice paths_;
  const float* lattice_;
  const float* teacher_;
  std::vector<float> shares_;  // of cells in what the teacher says
  std::vector<TransducerCell> tokens_;
  std::vector<float> durations_, duration_posteriors_;
};

}  // namespace

void transducer_loss(const TransducerBatch& p, float* losses, float* lattice, float* divergences) {
  int64_t at = 0;
  for (int64_t i = 0; i < p.sequences; at += p.cell_count(i) * p.kept(), ++i) {
    Utterance utterance(p, i, lattice + at, p.teacher ? p.teacher + at : nullptr);
    losses[i] = utterance.loss(lattice + at);
    if (p.teacher) divergences[i] = utterance.divergence(lattice + at);
  }
}

void transducer_loss_backward(const TransducerBatch& p, const float* losses, const float* lattice, const float* factors,
                              float divergence_factor, const TransducerGradients& gradients) {
  int64_t at = 0;
  for (int64_t i = 0; i < p.sequences; at += p.cell_count(i) * p.kept(), ++i) {
    float* frames = gradients.frames + p.offsets[i] * p.joint;
    float* predictions = gradients.predictions + p.prediction_offsets[i] * p.joint;
    if (std::isnan(losses[i])) {
      const float nan = std::numeric_limits<float>::quiet_NaN();
      std::fill_n(frames, p.frame_count(i) * p.joint, nan);
      std::fill_n(predictions, (p.label_count(i) + 1) * p.joint, nan);
      std::fill_n(gradients.weight, p.outputs() * p.joint, nan);
      std::fill_n(gradients.bias, p.outputs(), nan);
    } else if (!std::isinf(losses[i])) {
      Utterance(p, i, lattice + at, p.teacher ? p.teacher + at : nullptr).backward(factors[i], divergence_factor, frames, predictions, gradients);
    }
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
