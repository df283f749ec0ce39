// A long short-term memory layer over whole sequences (Hochreiter, Schmidhuber 1997), for training prediction networks.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

/// Packed sequences, each from a state of zeros. Gates in PyTorch's order: input, forget, candidate, output.
struct LstmSequence {
  const int32_t* offsets;  // (sequences + 1)
  int64_t sequences;
  int64_t hidden;
  const float* recurrent;  // (4 * hidden, hidden)
};

USMLITE_FOR_EACH_ISA(
  // gates (rows, 4 * hidden) hold what inputs and biases give; recurrent times the hidden state before is added to them.
  // hidden_states, cells (rows, hidden): the states after each row.
  void lstm_sequence(const LstmSequence& layer, float* gates, float* hidden_states, float* cells);
  // From the gradient of hidden_states: gate_gradient (rows, 4 * hidden), and recurrent_gradient (4 * hidden, hidden).
  void lstm_sequence_backward(const LstmSequence& layer, const float* gates, const float* hidden_states, const float* cells,
                              const float* gradient, float* gate_gradient, float* recurrent_gradient);
)
USMLITE_DISPATCH(lstm_sequence)
USMLITE_DISPATCH(lstm_sequence_backward)

}  // namespace usmlite::cpu
