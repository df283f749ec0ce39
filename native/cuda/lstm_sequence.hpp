// A long short-term memory layer over whole sequences (Hochreiter, Schmidhuber 1997) on the GPU, for training prediction networks.
#pragma once
#include <vector>

#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// What the forward pass leaves, a row for each row of its inputs.
struct LstmStates {
  DeviceTensor hidden;    // (rows, hidden) bfloat16, after the row
  DeviceTensor previous;  // (rows, hidden) bfloat16, before it: zeros at the first of a sequence
  DeviceTensor cells;     // (rows, hidden) float32, after it
  DeviceTensor gates;     // (rows, 4 * hidden) bfloat16: the sums that the gates i, f, g, o see
};

/// What cpu::lstm_sequence computes. inputs (rows, 4 * hidden): what inputs and biases give to the gates; recurrent (4 * hidden, hidden): both
/// bfloat16. `offsets` (sequences + 1) of the rows. A step is a product over all sequences that have not ended, and a kernel.
LstmStates lstm_sequence(const DeviceTensor& inputs, const DeviceTensor& recurrent, const std::vector<int32_t>& offsets,
                         const Stream& stream);

/// From the gradient of `hidden`, bfloat16, that of `inputs`, bfloat16; times `previous` it is that of `recurrent`.
DeviceTensor lstm_sequence_backward(const LstmStates& states, const DeviceTensor& recurrent, const std::vector<int32_t>& offsets,
                                    const DeviceTensor& gradient, const Stream& stream);

}  // namespace usmlite::cuda
