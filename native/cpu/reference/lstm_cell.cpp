#include "cpu/lstm_cell.hpp"

#include <cmath>

#include "cpu/reference/sigmoid.hpp"

namespace usmlite::cpu::reference {

void lstm_cell(const float* gates, const float* cell, int64_t rows, int64_t hidden, float* new_hidden, float* new_cell) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* g = gates + row * 4 * hidden;
    for (int64_t c = 0; c < hidden; ++c) {
      const double kept = sigmoid(g[hidden + c]) * cell[row * hidden + c];
      const double state = kept + sigmoid(g[c]) * std::tanh(static_cast<double>(g[2 * hidden + c]));
      new_cell[row * hidden + c] = static_cast<float>(state);
      new_hidden[row * hidden + c] = static_cast<float>(sigmoid(g[3 * hidden + c]) * std::tanh(state));
    }
  }
}

void lstm_cell_backward(const float* gates, const float* cell, const float* new_cell, const float* hidden_gradient, int64_t rows,
                        int64_t hidden, float* cell_gradient, float* gate_gradient) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* g = gates + row * 4 * hidden;
    float* to = gate_gradient + row * 4 * hidden;
    for (int64_t c = 0; c < hidden; ++c) {
      const int64_t at = row * hidden + c;
      const double input = sigmoid(g[c]), forget = sigmoid(g[hidden + c]), output = sigmoid(g[3 * hidden + c]);
      const double candidate = std::tanh(static_cast<double>(g[2 * hidden + c])), seen = std::tanh(static_cast<double>(new_cell[at]));
      const double state = cell_gradient[at] + hidden_gradient[at] * output * (1 - seen * seen);
      to[c] = static_cast<float>(state * candidate * input * (1 - input));
      to[hidden + c] = static_cast<float>(state * cell[at] * forget * (1 - forget));
      to[2 * hidden + c] = static_cast<float>(state * input * (1 - candidate * candidate));
      to[3 * hidden + c] = static_cast<float>(hidden_gradient[at] * seen * output * (1 - output));
      cell_gradient[at] = static_cast<float>(state * forget);
    }
  }
}

}  // namespace usmlite::cpu::reference
