#include "cpu/lstm_sequence.hpp"

#include <algorithm>
#include <vector>

#include "cpu/lstm_cell.hpp"

namespace usmlite::cpu::reference {

void lstm_sequence(const LstmSequence& p, float* gates, float* hidden_states, float* cells) {
  const int64_t hidden = p.hidden;
  const std::vector<float> zeros(hidden, 0.0f);
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    for (int64_t row = p.offsets[sequence]; row < p.offsets[sequence + 1]; ++row) {
      const bool begins = row == p.offsets[sequence];
      const float* before = begins ? zeros.data() : hidden_states + (row - 1) * hidden;
      for (int64_t g = 0; g < 4 * hidden; ++g) {
        double sum = gates[row * 4 * hidden + g];
        for (int64_t c = 0; c < hidden; ++c) sum += static_cast<double>(p.recurrent[g * hidden + c]) * before[c];
        gates[row * 4 * hidden + g] = static_cast<float>(sum);
      }
      lstm_cell(gates + row * 4 * hidden, begins ? zeros.data() : cells + (row - 1) * hidden, 1, hidden, hidden_states + row * hidden,
                cells + row * hidden);
    }
  }
}

void lstm_sequence_backward(const LstmSequence& p, const float* gates, const float* hidden_states, const float* cells,
                            const float* gradient, float* gate_gradient, float* recurrent_gradient) {
  const int64_t hidden = p.hidden;
  const std::vector<float> zeros(hidden, 0.0f);
  std::fill_n(recurrent_gradient, 4 * hidden * hidden, 0.0f);
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    std::vector<float> cell_gradient(hidden, 0.0f), hidden_gradient(hidden, 0.0f);
    for (int64_t row = p.offsets[sequence + 1] - 1; row >= p.offsets[sequence]; --row) {
      const bool begins = row == p.offsets[sequence];
      for (int64_t c = 0; c < hidden; ++c) hidden_gradient[c] += gradient[row * hidden + c];
      float* to = gate_gradient + row * 4 * hidden;
      lstm_cell_backward(gates + row * 4 * hidden, begins ? zeros.data() : cells + (row - 1) * hidden, cells + row * hidden,
                         hidden_gradient.data(), 1, hidden, cell_gradient.data(), to);
      if (begins) break;
      for (int64_t c = 0; c < hidden; ++c) {
        double sum = 0;
        for (int64_t g = 0; g < 4 * hidden; ++g) {
          sum += static_cast<double>(to[g]) * p.recurrent[g * hidden + c];
          recurrent_gradient[g * hidden + c] += to[g] * hidden_states[(row - 1) * hidden + c];
        }
        hidden_gradient[c] = static_cast<float>(sum);
      }
    }
  }
}

}  // namespace usmlite::cpu::reference
