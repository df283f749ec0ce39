#include "cpu/lstm_cell.hpp"

#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// tanh x = 2 sigmoid(2 x) - 1
inline Vector hyperbolic_tangent(Vector x) {
  return multiply_add(Vector::all(2.0f), sigmoid(x + x), Vector::all(-1.0f));
}

}  // namespace

void lstm_cell(const float* gates, const float* cell, int64_t rows, int64_t hidden, float* new_hidden, float* new_cell) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* g = gates + row * 4 * hidden;
    const int64_t at = row * hidden;
    for_each_vector(hidden, [&](int64_t c, int64_t lanes) {
      const Vector added = sigmoid(Vector::load(g + c, lanes)) * hyperbolic_tangent(Vector::load(g + 2 * hidden + c, lanes));
      const Vector state = multiply_add(sigmoid(Vector::load(g + hidden + c, lanes)), Vector::load(cell + at + c, lanes), added);
      state.store(new_cell + at + c, lanes);
      (sigmoid(Vector::load(g + 3 * hidden + c, lanes)) * hyperbolic_tangent(state)).store(new_hidden + at + c, lanes);
    });
  }
}

void lstm_cell_backward(const float* gates, const float* cell, const float* new_cell, const float* hidden_gradient, int64_t rows,
                        int64_t hidden, float* cell_gradient, float* gate_gradient) {
  const Vector one = Vector::all(1.0f);
  for (int64_t row = 0; row < rows; ++row) {
    const float* g = gates + row * 4 * hidden;
    float* to = gate_gradient + row * 4 * hidden;
    const int64_t at = row * hidden;
    for_each_vector(hidden, [&](int64_t c, int64_t lanes) {
      const Vector input = sigmoid(Vector::load(g + c, lanes)), forget = sigmoid(Vector::load(g + hidden + c, lanes));
      const Vector candidate = hyperbolic_tangent(Vector::load(g + 2 * hidden + c, lanes));
      const Vector output = sigmoid(Vector::load(g + 3 * hidden + c, lanes));
      const Vector seen = hyperbolic_tangent(Vector::load(new_cell + at + c, lanes));
      const Vector above = Vector::load(hidden_gradient + at + c, lanes);
      const Vector state = multiply_add(above * output, one - seen * seen, Vector::load(cell_gradient + at + c, lanes));
      (state * candidate * input * (one - input)).store(to + c, lanes);
      (state * Vector::load(cell + at + c, lanes) * forget * (one - forget)).store(to + hidden + c, lanes);
      (state * input * (one - candidate * candidate)).store(to + 2 * hidden + c, lanes);
      (above * seen * output * (one - output)).store(to + 3 * hidden + c, lanes);
      (state * forget).store(cell_gradient + at + c, lanes);
    });
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
