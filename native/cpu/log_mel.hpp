// Log-mel energies of overlapping frames, in float64 as in the feature extractors they must agree with.
#pragma once
#include "audio/log_mel_plan.hpp"
#include "core/instruction_set.hpp"

namespace usmlite::cpu {

USMLITE_FOR_EACH_ISA(
  // features (frames, mel_bins): the logarithm of the floored filters * |FFT(window * frame)|^2; frame f begins at samples[f * hop]
  void log_mel(const audio::LogMelPlan& plan, const float* samples, int64_t frames, float* features);
)
USMLITE_DISPATCH(log_mel)

}  // namespace usmlite::cpu
