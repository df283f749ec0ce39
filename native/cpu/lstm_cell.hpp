// The elementwise part of a long short-term memory cell (Hochreiter, Schmidhuber 1997), gates in PyTorch's order.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

USMLITE_FOR_EACH_ISA(
  // gates (rows, 4 * hidden): input, forget, candidate, output; new_cell = sigmoid(f) cell + sigmoid(i) tanh(g),
  // new_hidden = sigmoid(o) tanh(new_cell), all (rows, hidden)
  void lstm_cell(const float* gates, const float* cell, int64_t rows, int64_t hidden, float* new_hidden, float* new_cell);
  // From the gradient of new_hidden: gate_gradient (rows, 4 * hidden); cell_gradient holds that of new_cell and then that of cell.
  void lstm_cell_backward(const float* gates, const float* cell, const float* new_cell, const float* hidden_gradient, int64_t rows,
                          int64_t hidden, float* cell_gradient, float* gate_gradient);
)
USMLITE_DISPATCH(lstm_cell)
USMLITE_DISPATCH(lstm_cell_backward)

}  // namespace usmlite::cpu
