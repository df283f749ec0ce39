// The kernel of log-mel features.
#pragma once
#include "cuda/packed_sequences.hpp"
#include "cuda/runtime.hpp"

namespace usmlite::cuda {

struct LogMelArguments {
  const float* samples;
  const int32_t *sample_offsets, *frame_offsets;
  const double *window, *cosine, *sine, *weights;
  const int32_t *first_bin, *weight_offsets;  // of each filter
  int window_length, hop, before, half;       // half: of the transform's length
  int mirrored_window;                        // samples; 0: silence lies around an utterance
  int bins;
  double full_scale, preemphasis, frame_preemphasis, floor;
  bool centred_frames, added_floor;
  float* features;
  int64_t stride;
};

/// Bytes of shared memory that transforms of this length need.
size_t log_mel_shared_bytes(int64_t fft_length);
/// At least one sequence has frames.
void log_mel(const LogMelArguments& arguments, const PackedSequences& sequences, StreamHandle stream);

}  // namespace usmlite::cuda
