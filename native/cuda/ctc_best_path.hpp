// The most probable token of every frame: all that greedy decoding needs of what a CTC head says.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// path (frames, 3) float32: for each row of logits (frames, vocabulary), 16-bit floats, the number of the largest (the first of
/// equals), the logarithm of its probability, and that of the blank's.
void ctc_best_path(const DeviceMatrix& logits, int blank, const DeviceMatrix& path, const Stream& stream);

}  // namespace usmlite::cuda
