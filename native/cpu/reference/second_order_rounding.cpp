#include "cpu/second_order_rounding.hpp"

namespace usmlite::cpu::reference {

void second_order_rounding(const SecondOrderRounding& r) {
  for (int64_t row = 0; row < r.rows; ++row) {
    codec::GroupScale scale{1.0f, 0.0f, true};
    for (int64_t j = 0; j < r.columns; ++j) {
      begin_input(r, row, j, scale, [](const codec::WeightSpec& spec, const ScaleGroup& group) { return search_scale(spec, group); });
      const float error = round_input(r, row, j, scale);
      for (int64_t k = j + 1; k < r.columns; ++k) r.weights[row * r.columns + k] -= error * r.factor[j * r.columns + k];
    }
  }
}

}  // namespace usmlite::cpu::reference
