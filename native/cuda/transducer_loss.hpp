// Loss of transducers (Graves 2012) and token-and-duration transducers (Xu et al. 2023) with their joint network on the GPU: what
// cpu/transducer_loss.hpp computes. Logits exist for a slab of pairs of a frame and a label position at a time; they are computed again for the
// gradient. Nothing is waited for.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/device_tensor.hpp"
#include "cuda/transducer_durations.hpp"

namespace usmlite::cuda {

struct TransducerBatch {
  const DeviceTensor* frames;               // (frames, joint) bfloat16: what the encoder says, projected
  std::vector<int32_t> frame_offsets;       // (sequences + 1)
  const DeviceTensor* predictions;          // (labels + sequences, joint) bfloat16: of each prefix of each transcript, the empty one first
  std::vector<int32_t> prediction_offsets;  // (sequences + 1)
  const DeviceTensor* weight;               // (vocabulary + durations, joint) bfloat16
  const DeviceTensor* bias;                 // (vocabulary + durations) float32
  std::vector<int32_t> targets;             // labels of all sequences
  int blank;
  std::vector<int> durations;               // up to kMostTransducerDurations; none: the plain transducer
  float undernormalization;
  const DeviceTensor* teacher;              // lattice of a teacher, without undernormalization; or null
  int64_t slab_rows;                        // pairs whose logits are held at a time; 0: as many as make about 32 MB

  size_t count() const { return frame_offsets.size() - 1; }
  int64_t label_count(size_t i) const { return prediction_offsets[i + 1] - prediction_offsets[i] - 1; }
  int64_t cell_count(size_t i) const { return (frame_offsets[i + 1] - frame_offsets[i]) * (label_count(i) + 1); }
  int64_t cells() const;
  /// Numbers kept of a cell.
  int64_t kept() const { return 2 + static_cast<int64_t>(durations.size()); }
};

struct TransducerLosses {
  DeviceTensor losses;       // float32 (sequences): infinity when no path fits, NaN when a logit is not finite
  DeviceTensor lattice;      // float32 (cells * kept): log p(blank), log p(label), those of durations
  DeviceTensor divergences;  // float32 (sequences), with a teacher
  DeviceTensor shares;       // float32 (cells), with a teacher: of its paths that pass through the cell
};
TransducerLosses transducer_loss(const TransducerBatch& batch, const Stream& stream);

/// What the gradient of sum_i factors[i] upstream losses[i] + divergence_factor divergence_upstream divergences[i] depends on besides the batch.
struct TransducerSeeds {
  const DeviceTensor *losses, *lattice, *shares;  // of the forward pass; shares null without a teacher
  const DeviceTensor* factors;                    // float32 (sequences)
  const DeviceTensor* upstream;                   // float32 (1); null: 0
  const DeviceTensor* divergence_upstream;        // float32 (1); null: 0
  float divergence_factor;
};

/// Those that are wanted, others null: frames and predictions, bfloat16, both or neither; bias, float32; the gradient of the weight is added to
/// `weight`, float32.
struct TransducerGradients {
  const DeviceTensor *frames, *predictions, *weight, *bias;
};
void transducer_loss_backward(const TransducerBatch& batch, const TransducerSeeds& seeds, const TransducerGradients& gradients,
                              const Stream& stream);

}  // namespace usmlite::cuda
