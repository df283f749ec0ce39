// Log-mel features on the GPU, in float64 like those of the CPU: a transform of 512 samples a hundred times a second is little work, and
// float32 would lose the quiet bins of a loud frame.
#pragma once
#include <cstdint>
#include <memory>

#include "audio/log_mel_plan.hpp"
#include "cuda/device_matrix.hpp"
#include "cuda/device_sequences.hpp"

namespace usmlite::cuda {

/// How samples become frames.
struct Framing {
  int64_t before;           // samples in front of the first: frame f begins at f * hop - before
  double preemphasis;       // share of the sample before that is taken off each but the first
  double full_scale;        // what a sample of 1 counts as
  int64_t mirrored_window;  // 0: silence lies around an utterance. Else it fills a window of so many samples, and lies mirrored around that
};

/// The tables of a front end in the memory of the GPU.
class LogMelTables {
 public:
  /// Throws UNSUPPORTED_SPEC for a transform that does not fit into shared memory.
  explicit LogMelTables(const audio::LogMelPlan& plan);

  /// features (frames, mel_bins) float32. samples (n) float32: of all utterances, of which each has sample_offsets[i + 1] -
  /// sample_offsets[i], and silence behind them; `frames` says how many frames each gets.
  void features(const DeviceMatrix& samples, const int32_t* sample_offsets, DeviceSequences& frames, const Framing& framing,
                const DeviceMatrix& features, const Stream& stream);
  const audio::LogMelSettings& settings() const { return settings_; }

 private:
  audio::LogMelSettings settings_;
  int64_t weights_;  // of all filters
  std::shared_ptr<DeviceMemory> memory_;
};

}  // namespace usmlite::cuda
