// Connectionist temporal classification (Graves et al., ICML 2006) on the GPU: loss and its gradient with respect to logits.
#pragma once
#include <cstdint>
#include <vector>

#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

class DeviceSequences;

/// A label of a transcript.
struct CtcLabel {
  int32_t token;
  int32_t next;      // place, in its transcript, of the next label of this token; -1 behind the last
  int32_t is_first;  // of this token in its transcript
};

/// The transcripts of a batch.
struct CtcTranscripts {
  std::vector<CtcLabel> labels;         // one transcript after another
  std::vector<int32_t> offsets;         // (sequences + 1)
  std::vector<int32_t> minimum_frames;  // of each sequence, for the shortest alignment
  int longest;                          // labels
};
/// `targets`: tokens of all transcripts, none of which is the blank; `offsets` (sequences + 1).
CtcTranscripts make_ctc_transcripts(const int32_t* targets, const int32_t* offsets, int64_t sequences);

/// logits (frames, vocabulary): float32 or bfloat16. losses (sequences) float32: -log p(transcript | logits); infinity when no alignment
/// fits, NaN when a logit is not finite. gradient, of the logits' type and shape, or null: softmax - posterior, zeros where the loss is
/// infinite. Throws UNSUPPORTED_SPEC for transcripts that do not fit into shared memory.
void ctc_loss(const DeviceMatrix& logits, DeviceSequences& sequences, const CtcTranscripts& transcripts, int blank, const DeviceMatrix& losses,
              const DeviceMatrix* gradient, const Stream& stream);

}  // namespace usmlite::cuda
