#include "cpu/lstm_cell.hpp"

#include <cmath>

namespace usmlite::cpu::reference {
namespace {

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

}  // namespace

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

}  // namespace usmlite::cpu::reference
