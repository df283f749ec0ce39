// The kernels of the CTC loss, one after another: what frames emit, paths from both ends, gradient.
#pragma once
#include "cuda/ctc_loss.hpp"

namespace usmlite::cuda {

/// An alignment of L labels has states 0 .. 2 L: blank, label 1, blank, .. label L, blank.
struct CtcLossArguments {
  const void* logits;  // (frames, vocabulary)
  DeviceType type;     // kFloat32 or kBFloat16
  int64_t logits_stride;
  int vocabulary, blank;
  PackedSequences sequences;
  const CtcLabel* labels;
  const int32_t *label_offsets, *minimum_frames;
  int longest_transcript;
  float* losses;       // (sequences)
  float* normalisers;  // (frames): logarithm of the softmax's denominator; NaN when a logit is not finite
  float* emissions;    // (frames, 1 + longest transcript): log-probability of the blank, then of each label
  int64_t emissions_stride;
  float *alpha, *beta;  // (frames, states of the longest transcript), logarithms, each frame's up to a constant; beta for gradients only
  int64_t states_stride;
};

/// Bytes of shared memory that the recursions need.
size_t ctc_recursion_shared_bytes(int longest_transcript);

void ctc_emissions(const CtcLossArguments& arguments, StreamHandle stream);
/// losses, alpha and, unless it is null, beta.
void ctc_recursions(const CtcLossArguments& arguments, StreamHandle stream);
/// Where there is a beta. `gradient` has the type and row stride of the logits.
void ctc_gradient(const CtcLossArguments& arguments, void* gradient, StreamHandle stream);

}  // namespace usmlite::cuda
