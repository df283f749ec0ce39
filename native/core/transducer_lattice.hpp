// The lattice of a transducer (Graves 2012) or of a token-and-duration transducer (Xu et al. 2023): a path goes from cell
// (0, 0) to (frames, labels). A blank moves on by a duration above 0, a label to the next label and by a duration from 0.
// Without durations a blank takes one frame and a label none.
#pragma once
#include <cstdint>
#include <vector>

namespace usmlite {

/// What is known of one cell (frame, label): logarithms of probabilities.
struct TransducerCell {
  float blank;
  float label;  // of the label that follows; unused behind the last
};

/// One utterance. Recursions run in float64: there are few cells, and their number of paths is large.
class TransducerLattice {
 public:
  /// @param durations frames that arcs may take; none: the plain transducer
  TransducerLattice(int64_t frames, int64_t labels, const int32_t* durations, int64_t duration_count);

  int64_t cells() const { return frames_ * rows_; }
  int64_t cell(int64_t frame, int64_t label) const { return frame * rows_ + label; }

  /// Natural logarithm of the summed probability of all paths; minus infinity where there is none.
  /// `duration` (cells, durations): logarithms of their probabilities; null without durations.
  double forward(const TransducerCell* cells, const float* duration);

  /// Share of the probability of all paths that passes through arcs of a cell.
  struct Posterior {
    double blank, label;
  };
  /// After forward: posteriors of every cell, and of its durations (cells, durations) unless there are none.
  std::vector<Posterior> backward(const TransducerCell* cells, const float* duration, std::vector<float>& duration_posteriors) const;

 private:
  // Calls arc(duration index or 0, frames) for each duration.
  template <typename Arc>
  void for_each_duration(bool blank, Arc&& arc) const {
    if (durations_.empty()) return arc(int64_t{0}, blank ? 1 : 0);
    for (int64_t i = 0; i < static_cast<int64_t>(durations_.size()); ++i) {
      if (!blank || durations_[i] > 0) arc(i, durations_[i]);
    }
  }
  double duration_at(const float* duration, int64_t cell, int64_t index) const {
    return durations_.empty() ? 0.0 : duration[cell * static_cast<int64_t>(durations_.size()) + index];
  }

  int64_t frames_, labels_, rows_;  // rows_ = labels_ + 1
  std::vector<int64_t> durations_;
  std::vector<double> alpha_;  // paths from the start up to a cell
  double likelihood_ = 0;
};

}  // namespace usmlite
