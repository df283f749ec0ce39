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

}  // namespace usmlite::cpu::USMLITE_ISA
