// Where a cell of the lattice of a transducer lies, for the kernels of its loss.
#pragma once

#include "cuda/ptx.cuh"
#include "cuda/transducer_loss_kernels.hpp"

namespace usmlite::cuda::transducer {

/// Among sequences of these offsets the one that `place` lies in.
__device__ __forceinline__ int owner_of(const int32_t* offsets, int count, int place) {
  int low = 0, high = count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (offsets[middle] <= place) low = middle;
    else high = middle;
  }
  return low;
}

/// Numbers of a cell in the lattice.
__device__ __forceinline__ int kept(const TransducerDurations& durations) { return 2 + durations.count; }

struct Utterance {
  int index, first_frame, frames, first_prediction, label_count, first_cell;

  __device__ __forceinline__ Utterance(const TransducerCells& cells, int index)
      : index(index), first_frame(cells.frame_offsets[index]), frames(cells.frame_offsets[index + 1] - first_frame),
        first_prediction(cells.prediction_offsets[index]), label_count(cells.prediction_offsets[index + 1] - first_prediction - 1),
        first_cell(cells.cell_offsets[index]) {}
  /// Label positions, the one behind the last label too.
  __device__ __forceinline__ int places() const { return label_count + 1; }
  __device__ __forceinline__ int64_t cell(int t, int u) const { return first_cell + int64_t{t} * places() + u; }
};

struct Cell {
  Utterance utterance;
  int t, u;

  __device__ __forceinline__ Cell(const TransducerCells& cells, int cell)
      : utterance(cells, owner_of(cells.cell_offsets, cells.count, cell)), t((cell - utterance.first_cell) / utterance.places()),
        u((cell - utterance.first_cell) % utterance.places()) {}
  __device__ __forceinline__ bool has_label() const { return u < utterance.label_count; }
  __device__ __forceinline__ int label(const TransducerCells& cells) const { return cells.labels[utterance.first_prediction - utterance.index + u]; }
};

}  // namespace usmlite::cuda::transducer
