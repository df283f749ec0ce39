#include "core/transducer_lattice.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace usmlite {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

double log_add(double a, double b) {
  const double high = std::max(a, b), low = std::min(a, b);
  return low == kNever ? high : high + std::log1p(std::exp(low - high));
}

}  // namespace

TransducerLattice::TransducerLattice(int64_t frames, int64_t labels, const int32_t* durations, int64_t duration_count)
    : frames_(frames), labels_(labels), rows_(labels + 1), durations_(durations, durations + duration_count) {}

double TransducerLattice::forward(const TransducerCell* cells, const float* duration) {
  alpha_.assign(this->cells(), kNever);
  likelihood_ = kNever;
  if (frames_ == 0) return likelihood_;
  alpha_[0] = 0.0;
  for (int64_t t = 0; t < frames_; ++t) {
    for (int64_t u = 0; u <= labels_; ++u) {
      const int64_t at = cell(t, u);
      const double here = alpha_[at];
      if (here == kNever) continue;
      for_each_duration(true, [&](int64_t index, int64_t frames) {
        const double to = here + cells[at].blank + duration_at(duration, at, index);
        if (t + frames < frames_) alpha_[cell(t + frames, u)] = log_add(alpha_[cell(t + frames, u)], to);
        else if (t + frames == frames_ && u == labels_) likelihood_ = log_add(likelihood_, to);
      });
      if (u == labels_) continue;
      for_each_duration(false, [&](int64_t index, int64_t frames) {
        const double to = here + cells[at].label + duration_at(duration, at, index);
        if (t + frames < frames_) alpha_[cell(t + frames, u + 1)] = log_add(alpha_[cell(t + frames, u + 1)], to);
      });
    }
  }
  return likelihood_;
}

std::vector<TransducerLattice::Posterior> TransducerLattice::backward(const TransducerCell* cells, const float* duration,
                                                                      std::vector<float>& duration_posteriors) const {
  std::vector<Posterior> posteriors(this->cells(), Posterior{0.0, 0.0});
  duration_posteriors.assign(this->cells() * durations_.size(), 0.0f);
  if (likelihood_ == kNever) return posteriors;
  std::vector<double> beta(this->cells(), kNever);  // paths from a cell to the end
  for (int64_t t = frames_ - 1; t >= 0; --t) {
    for (int64_t u = labels_; u >= 0; --u) {
      const int64_t at = cell(t, u);
      // An arc of this probability and the paths behind it: adds to beta, and to the posterior of what it belongs to.
      const auto take = [&](double probability, double behind, int64_t index, double& posterior) {
        if (behind == kNever) return;
        beta[at] = log_add(beta[at], probability + behind);
        const double share = std::exp(alpha_[at] + probability + behind - likelihood_);
        posterior += share;
        if (!durations_.empty()) duration_posteriors[at * durations_.size() + index] += static_cast<float>(share);
      };
      for_each_duration(true, [&](int64_t index, int64_t frames) {
        const double behind = t + frames < frames_ ? beta[cell(t + frames, u)] : t + frames == frames_ && u == labels_ ? 0.0 : kNever;
        take(cells[at].blank + duration_at(duration, at, index), behind, index, posteriors[at].blank);
      });
      if (u == labels_) continue;
      for_each_duration(false, [&](int64_t index, int64_t frames) {
        const double behind = t + frames < frames_ ? beta[cell(t + frames, u + 1)] : kNever;
        take(cells[at].label + duration_at(duration, at, index), behind, index, posteriors[at].label);
      });
    }
  }
  return posteriors;
}

}  // namespace usmlite
