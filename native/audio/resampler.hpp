// Band-limited change of sampling rate for a signal that arrives in pieces.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "audio/resample_plan.hpp"

namespace usmlite::audio {

/// Gives the same samples however the input is cut into pieces, without delay: output j is the signal at time
/// j / to_rate, and beyond both ends the signal counts as silence.
class Resampler {
 public:
  Resampler(int64_t from_rate, int64_t to_rate);

  /// Samples that push (or finish, when `last`) will write after `count` more input samples.
  int64_t ready(int64_t count, bool last) const;
  /// Takes `count` samples and writes ready(count, false) samples.
  void push(const float* input, int64_t count, float* output);
  /// Ends the signal: writes ready(0, true) samples. All output together is round(input * to / from) samples.
  void finish(float* output);

 private:
  void produce(int64_t count, float* output);

  std::shared_ptr<const ResamplePlan> plan_;
  std::vector<float> buffer_;  // input from sample buffer_begin_ on
  int64_t buffer_begin_;
  int64_t received_ = 0;  // input samples
  int64_t produced_ = 0;  // output samples
};

}  // namespace usmlite::audio
