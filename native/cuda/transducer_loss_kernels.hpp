// The kernels of the loss of a transducer, in the order in which they run.
#pragma once
#include <cstdint>

#include "cuda/device_matrix.hpp"
#include "cuda/transducer_durations.hpp"

namespace usmlite::cuda {

/// Where the cells of a batch lie, each a pair of a frame and a label position of an utterance: utterance after utterance, frame after frame, all
/// in the memory of the GPU.
struct TransducerCells {
  const int32_t* frame_offsets;       // (count + 1)
  const int32_t* prediction_offsets;  // (count + 1)
  const int32_t* cell_offsets;        // (count + 1)
  const int32_t* labels;              // of utterance i from prediction_offsets[i] - i on
  int count;                          // of utterances
};

/// What the joint network's last layer makes, and how it is read: the vocabulary, durations behind it.
struct TransducerLogits {
  const float* bias;  // (vocabulary + durations), not yet in the logits
  int vocabulary, blank;
  float undernormalization;
};

/// Cells [first, first + count), and the matrices of a slab, which may have more rows than that.
struct TransducerSlab {
  int first, count;
};

/// hidden (rows, joint) = relu(frame + prediction) of the slab's cells, and zeros behind them; all bfloat16.
void transducer_join(const TransducerCells& cells, const TransducerSlab& slab, const DeviceMatrix& frames, const DeviceMatrix& predictions,
                     const DeviceMatrix& hidden, const Stream& stream);
/// Their part of the lattice (all cells, kept): NaN where a logit is not finite.
void transducer_emissions(const TransducerCells& cells, const TransducerSlab& slab, const TransducerLogits& what,
                          const TransducerDurations& durations, const DeviceMatrix& logits, float* lattice, const Stream& stream);

/// Logarithms of the summed probability of paths, in float64: the numbers of paths are large.
struct TransducerPaths {
  double* alpha;        // (cells) up to a cell
  double* beta;         // (cells) from a cell to the end; null where it is not wanted
  double* likelihoods;  // (utterances); below kLowestLikelihood where there is no path, NaN where the lattice is not finite
};
inline constexpr double kLowestLikelihood = -1e29;

/// `losses` (utterances), or null.
void transducer_paths(const TransducerCells& cells, const TransducerDurations& durations, const float* lattice, const TransducerPaths& paths,
                      float* losses, const Stream& stream);
/// The shares (cells) of a teacher's paths that pass through each, and how far a student is from it (utterances).
void transducer_lesson(const TransducerCells& cells, const TransducerDurations& durations, const float* teacher, const TransducerPaths& paths,
                       const float* student, float undernormalization, float* shares, float* divergences, const Stream& stream);

/// What the gradient of a logit is made of.
struct TransducerSlopes {
  const float *losses, *lattice, *teacher, *shares;
  const float *factors, *upstream, *divergence_upstream;
  float divergence_factor;
  TransducerPaths paths;
};
/// Logits of the slab become their gradient, in place; rows behind its cells become zeros.
void transducer_logit_gradient(const TransducerCells& cells, const TransducerSlab& slab, const TransducerLogits& what,
                               const TransducerDurations& durations, const TransducerSlopes& slopes, const DeviceMatrix& logits,
                               const Stream& stream);

/// Rows whose gradients a slab has a part of: its frames, of which it has all cells, and the predictions of the utterances it is of.
struct TransducerRows {
  int first_frame, frame_count, first_prediction, prediction_count;
};
/// From the gradient of `hidden`: that of the slab's frames (frames, joint) bfloat16, and what it adds to that of predictions, float32.
void transducer_join_backward(const TransducerCells& cells, const TransducerSlab& slab, const TransducerRows& rows, const DeviceMatrix& hidden,
                              const DeviceMatrix& gradient, const DeviceMatrix& frames, const DeviceMatrix& predictions,
                              const Stream& stream);

}  // namespace usmlite::cuda
