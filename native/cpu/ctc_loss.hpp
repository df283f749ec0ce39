// Connectionist temporal classification (Graves et al., ICML 2006): loss and its gradient with respect to logits.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

/// A packed batch of logits and the transcripts they should produce.
struct CtcBatch {
  const float* logits;            // (frames, vocabulary), before softmax
  int64_t frames;
  int64_t vocabulary;
  const int32_t* offsets;         // (sequences + 1) first frame of each sequence
  int64_t sequences;
  const int32_t* targets;         // labels of all sequences, one after another; none is blank
  const int32_t* target_offsets;  // (sequences + 1)
  int32_t blank;
};

/// Frames that the shortest alignment of `count` labels needs: one each, and a blank between equal neighbours.
inline int64_t ctc_minimum_frames(const int32_t* labels, int64_t count) {
  int64_t frames = count;
  for (int64_t i = 1; i < count; ++i) frames += labels[i] == labels[i - 1];
  return frames;
}

USMLITE_FOR_EACH_ISA(
  // losses (sequences): -log p(target | logits); infinity when no alignment fits, NaN when a logit is not finite.
  // gradient (frames, vocabulary) or null: d loss / d logits = softmax - posterior; zeros where the loss is infinite.
  void ctc_loss(const CtcBatch& batch, float* losses, float* gradient);
  // x (frames, columns) *= factors[sequence], in place
  void scale_sequences(float* x, const int32_t* offsets, int64_t sequences, int64_t columns, const float* factors);
)
USMLITE_DISPATCH(ctc_loss)
USMLITE_DISPATCH(scale_sequences)

}  // namespace usmlite::cpu
