// The polyphase filter of a change of sampling rate.
#pragma once
#include "audio/resample_plan.hpp"
#include "core/instruction_set.hpp"

namespace usmlite::cpu {

USMLITE_FOR_EACH_ISA(
  // output[n] for output samples first .. first + count - 1. input[0] is input sample `begin`; every sample within
  // half_width of an output must be there.
  void resample(const audio::ResamplePlan& plan, const float* input, int64_t begin, int64_t first, int64_t count,
                float* output);
)
USMLITE_DISPATCH(resample)

}  // namespace usmlite::cpu
