// Loss of transducers (Graves 2012) and token-and-duration transducers (Xu et al. 2023) with their joint network: logits of
// all pairs of a frame and a label exist for a slab of one utterance at a time.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

/// A packed batch. For frame t and label position u of an utterance, logits = weight relu(frames[t] + predictions[u]) + bias.
struct TransducerBatch {
  const float* frames;                // (frames, joint) what the encoder says, projected
  const int32_t* offsets;             // (sequences + 1) of frames
  const float* predictions;           // (labels + sequences, joint): of each prefix of each transcript, the empty one first
  const int32_t* prediction_offsets;  // (sequences + 1)
  int64_t sequences, joint;
  const float* weight;                // (vocabulary + durations, joint)
  const float* bias;                  // (vocabulary + durations)
  int64_t vocabulary;
  const int32_t* targets;             // labels of all sequences; sequence i has prediction_offsets[i + 1] - .. - 1
  int32_t blank;
  const int32_t* durations;           // (duration_count) frames; none: the plain transducer
  int64_t duration_count;
  float undernormalization;           // taken from the logarithm of every token's probability (Xu et al., section 4)
  const float* teacher;               // lattice of a teacher, without undernormalization; null: none

  int64_t outputs() const { return vocabulary + duration_count; }
  int64_t frame_count(int64_t i) const { return offsets[i + 1] - offsets[i]; }
  int64_t label_count(int64_t i) const { return prediction_offsets[i + 1] - prediction_offsets[i] - 1; }
  int64_t cell_count(int64_t i) const { return frame_count(i) * (label_count(i) + 1); }
  const int32_t* labels(int64_t i) const { return targets + prediction_offsets[i] - i; }
  /// Numbers kept of a cell for the backward pass: log p(blank), log p(label), those of its durations.
  int64_t kept() const { return 2 + duration_count; }
};

/// Gradients, all of them added to.
struct TransducerGradients {
  float* frames;
  float* predictions;
  float* weight;
  float* bias;
};

USMLITE_FOR_EACH_ISA(
  // losses (sequences): -log p(target | frames); infinity when no path fits, NaN when a logit is not finite.
  // lattice (cells of all sequences, kept): what transducer_loss_backward needs.
  // divergences (sequences), with a teacher: how far the sequence is from it (core/transducer_distillation.hpp).
  void transducer_loss(const TransducerBatch& batch, float* losses, float* lattice, float* divergences);
  // Gradients of sum_i factors[i] * losses[i] + divergence_factor * divergences[i]; sequences with a loss that is not finite give
  // none, or NaN for NaN.
  void transducer_loss_backward(const TransducerBatch& batch, const float* losses, const float* lattice, const float* factors,
                                float divergence_factor, const TransducerGradients& gradients);
)
USMLITE_DISPATCH(transducer_loss)
USMLITE_DISPATCH(transducer_loss_backward)

}  // namespace usmlite::cpu
