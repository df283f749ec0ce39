// What greedy decoding of transducers does between its products, for several utterances at once: all that steers it stays on the GPU.
#pragma once
#include <cstdint>
#include <vector>

#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// Where each utterance stands, (utterances, 4) float32, whole numbers: the row of its frame, the row behind its last frame, the symbols
/// said at this frame, and the token it has just said, or -1.
namespace transducer_state {
inline constexpr int kFrame = 0, kEnd = 1, kSymbols = 2, kToken = 3, kColumns = 4;
}

inline constexpr int kMostDurations = 16;

struct TransducerRules {
  int blank;
  int vocabulary;
  int maximum_symbols;  // said at one frame
  int duration_count;   // 0: RNN-T, which goes on by a frame after a blank
  int durations[kMostDurations];
};

/// y (utterances, joint) float16 = max(0, the utterance's frame of `frames` (frames, joint) + prediction (utterances, joint) float16). Frames are
/// bfloat16, as encoders put them out, or float32.
void transducer_join(const DeviceMatrix& frames, const DeviceMatrix& prediction, const DeviceMatrix& state, const DeviceMatrix& y,
                     const Stream& stream);
/// Takes the best token and duration of scores (utterances, vocabulary + durations), float16, and goes on. steps (utterances, 4) float32:
/// id, duration, logarithm of the id's probability, frame's row; -1, 0, 0, 0 for an utterance without frames.
void transducer_decide(const DeviceMatrix& scores, const TransducerRules& rules, const DeviceMatrix& state, const DeviceMatrix& steps,
                       const Stream& stream);

}  // namespace usmlite::cuda
