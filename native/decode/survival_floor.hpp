// The score that a sequence needs to be among those that a beam search keeps.
#pragma once
#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <vector>

namespace usmlite::decode {

/// Takes the scores of a frame as they become known. What lies below least() then is not kept, whatever comes after it.
class SurvivalFloor {
 public:
  SurvivalFloor(size_t beam_width, double beam_threshold) : beam_width_(beam_width), beam_threshold_(beam_threshold) {}

  void clear() {
    highest_scores_.clear();
    best_ = -std::numeric_limits<double>::infinity();
  }

  void take(double score) {
    best_ = std::max(best_, score);
    if (highest_scores_.size() < beam_width_) {
      highest_scores_.push_back(score);
      if (highest_scores_.size() == beam_width_) std::make_heap(highest_scores_.begin(), highest_scores_.end(), std::greater<>());
    } else if (score > highest_scores_.front()) {
      std::pop_heap(highest_scores_.begin(), highest_scores_.end(), std::greater<>());
      highest_scores_.back() = score;
      std::push_heap(highest_scores_.begin(), highest_scores_.end(), std::greater<>());
    }
  }

  double least() const {
    const double of_threshold = best_ - beam_threshold_;
    return highest_scores_.size() < beam_width_ ? of_threshold : std::max(of_threshold, highest_scores_.front());
  }

 private:
  const size_t beam_width_;
  const double beam_threshold_;
  double best_ = -std::numeric_limits<double>::infinity();
  std::vector<double> highest_scores_;  // at most beam_width_; the lowest in front once they are so many
};

}  // namespace usmlite::decode
