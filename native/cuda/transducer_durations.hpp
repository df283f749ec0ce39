// The frames that a step of a token-and-duration transducer may take.
#pragma once

namespace usmlite::cuda {

/// Durations that the kernels take, as many as greedy decoding does.
inline constexpr int kMostTransducerDurations = 16;

struct TransducerDurations {
  int count;  // 0: a blank takes one frame, a label none
  int frames[kMostTransducerDurations];
};

}  // namespace usmlite::cuda
