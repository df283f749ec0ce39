#include "cpu/transducer_loss.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/transducer_distillation.hpp"
#include "core/transducer_lattice.hpp"

namespace usmlite::cpu::reference {
namespace {

// One pair of a frame and a label position: the joint network in float64.
struct Joint {
  std::vector<double> hidden, log_probabilities;

  Joint(const TransducerBatch& p, const float* frame, const float* prediction) : hidden(p.joint), log_probabilities(p.outputs()) {
    for (int64_t j = 0; j < p.joint; ++j) {
      const double sum = static_cast<double>(frame[j]) + prediction[j];
      hidden[j] = sum < 0 ? 0 : sum;  // NaN stays NaN
    }
    for (int64_t v = 0; v < p.outputs(); ++v) {
      double sum = p.bias[v];
      for (int64_t j = 0; j < p.joint; ++j) sum += p.weight[v * p.joint + j] * hidden[j];
      log_probabilities[v] = sum;
    }
    normalize(0, p.vocabulary);
    normalize(p.vocabulary, p.outputs());
  }

 private:
  void normalize(int64_t begin, int64_t end) {
    if (begin == end) return;
    const auto first = log_probabilities.begin() + begin, last = log_probabilities.begin() + end;
    const double largest = *std::max_element(first, last);
    double sum = 0;
    for (auto it = first; it != last; ++it) sum += std::exp(*it - largest);
    const bool finite = std::all_of(first, last, [](double x) { return std::isfinite(x); });
    const double shift = finite ? largest + std::log(sum) : std::numeric_limits<double>::quiet_NaN();
    for (auto it = first; it != last; ++it) *it -= shift;
  }
};

const float* frame_of(const TransducerBatch& p, int64_t i, int64_t t) { return p.frames + (p.offsets[i] + t) * p.joint; }
const float* prediction_of(const TransducerBatch& p, int64_t i, int64_t u) { return p.predictions + (p.prediction_offsets[i] + u) * p.joint; }

// The kept numbers of a sequence as the lattice wants them.
void split(const TransducerBatch& p, const float* lattice, int64_t cells, std::vector<TransducerCell>& tokens, std::vector<float>& durations) {
  for (int64_t cell = 0; cell < cells; ++cell, lattice += p.kept()) {
    tokens.push_back({lattice[0], lattice[1]});
    durations.insert(durations.end(), lattice + 2, lattice + p.kept());
  }
}

// What a cell of sequence i is to learn, where a teacher was given.
struct Lesson {
  double share = 0.0;
  CollapsedCell teacher{};
};

}  // namespace

void transducer_loss(const TransducerBatch& p, float* losses, float* lattice, float* divergences) {
  const float* teacher = p.teacher;
  for (int64_t i = 0; i < p.sequences; lattice += p.cell_count(i) * p.kept(), ++i) {
    const int64_t labels = p.label_count(i);
    bool finite = true;
    for (int64_t cell = 0; cell < p.cell_count(i); ++cell) {
      const int64_t t = cell / (labels + 1), u = cell % (labels + 1);
      const Joint joint(p, frame_of(p, i, t), prediction_of(p, i, u));
      float* to = lattice + cell * p.kept();
      to[0] = static_cast<float>(joint.log_probabilities[p.blank] - p.undernormalization);
      to[1] = u < labels ? static_cast<float>(joint.log_probabilities[p.labels(i)[u]] - p.undernormalization) : 0.0f;
      for (int64_t d = 0; d < p.duration_count; ++d) to[2 + d] = static_cast<float>(joint.log_probabilities[p.vocabulary + d]);
      finite = finite && std::all_of(to, to + p.kept(), [](float x) { return std::isfinite(x); });
    }
    std::vector<TransducerCell> tokens;
    std::vector<float> durations;
    split(p, lattice, p.cell_count(i), tokens, durations);
    TransducerLattice paths(p.frame_count(i), labels, p.durations, p.duration_count);
    losses[i] = finite ? static_cast<float>(-paths.forward(tokens.data(), durations.data())) : std::numeric_limits<float>::quiet_NaN();
    if (!teacher) continue;
    const std::vector<float> shares = teacher_shares(p.frame_count(i), labels, p.durations, p.duration_count, teacher);
    double sum = 0.0;
    for (int64_t cell = 0; cell < p.cell_count(i); ++cell, teacher += p.kept()) {
      const bool has_label = cell % (labels + 1) < labels;
      sum += shares[cell] * collapsed_divergence({lattice + cell * p.kept(), has_label, p.duration_count, p.undernormalization},
                                                 {teacher, has_label, p.duration_count, 0.0f});
    }
    divergences[i] = static_cast<float>(sum);
  }
}

void transducer_loss_backward(const TransducerBatch& p, const float* losses, const float* lattice, const float* factors,
                              float divergence_factor, const TransducerGradients& gradients) {
  const float* teacher = p.teacher;
  for (int64_t i = 0; i < p.sequences; lattice += p.cell_count(i) * p.kept(), teacher += teacher ? p.cell_count(i) * p.kept() : 0, ++i) {
    if (std::isinf(losses[i])) continue;
    const int64_t labels = p.label_count(i);
    std::vector<float> shares;
    if (teacher) shares = teacher_shares(p.frame_count(i), labels, p.durations, p.duration_count, teacher);
    std::vector<TransducerCell> tokens;
    std::vector<float> durations, duration_posteriors;
    split(p, lattice, p.cell_count(i), tokens, durations);
    TransducerLattice paths(p.frame_count(i), labels, p.durations, p.duration_count);
    paths.forward(tokens.data(), durations.data());
    const auto posteriors = paths.backward(tokens.data(), durations.data(), duration_posteriors);
    for (int64_t cell = 0; cell < p.cell_count(i); ++cell) {
      const int64_t t = cell / (labels + 1), u = cell % (labels + 1);
      const Joint joint(p, frame_of(p, i, t), prediction_of(p, i, u));
      const auto [blank, label] = posteriors[cell];
      Lesson lesson;
      if (teacher) lesson = {divergence_factor * shares[cell], {teacher + cell * p.kept(), u < labels, p.duration_count, 0.0f}};
      double rest = 1.0 - std::exp(joint.log_probabilities[p.blank]);
      if (u < labels) rest -= std::exp(joint.log_probabilities[p.labels(i)[u]]);
      std::vector<double> hidden(p.joint, 0.0);
      for (int64_t v = 0; v < p.outputs(); ++v) {
        double gradient = std::exp(joint.log_probabilities[v]) * (blank + label);
        if (v == p.blank) gradient -= blank;
        if (u < labels && v == p.labels(i)[u]) gradient -= label;
        if (v >= p.vocabulary) gradient -= duration_posteriors[cell * p.duration_count + v - p.vocabulary];
        gradient *= factors[i];
        if (lesson.share != 0) {
          const double probability = std::exp(joint.log_probabilities[v]);
          const bool is_label = u < labels && v == p.labels(i)[u];
          const double taught = v >= p.vocabulary ? lesson.teacher.duration(v - p.vocabulary)
                                : v == p.blank    ? lesson.teacher.blank()
                                : is_label        ? lesson.teacher.label()
                                                  : lesson.teacher.rest() * probability / std::max(rest, 1e-6);
          gradient += lesson.share * (probability - taught);
        }
        if (std::isnan(losses[i])) gradient = std::numeric_limits<double>::quiet_NaN();
        gradients.bias[v] += static_cast<float>(gradient);
        for (int64_t j = 0; j < p.joint; ++j) {
          gradients.weight[v * p.joint + j] += static_cast<float>(gradient * joint.hidden[j]);
          if (!(joint.hidden[j] <= 0)) hidden[j] += gradient * p.weight[v * p.joint + j];
        }
      }
      for (int64_t j = 0; j < p.joint; ++j) {
        gradients.frames[(p.offsets[i] + t) * p.joint + j] += static_cast<float>(hidden[j]);
        gradients.predictions[(p.prediction_offsets[i] + u) * p.joint + j] += static_cast<float>(hidden[j]);
      }
    }
  }
}

}  // namespace usmlite::cpu::reference
