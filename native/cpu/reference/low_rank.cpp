#include "cpu/low_rank.hpp"

#include <vector>

#include "cpu/reference/matmul_finish.hpp"

namespace usmlite::cpu::reference {

void low_rank_add(const LowRankSegment* segments, int64_t count, int64_t in, int64_t out, const float* x, float* y,
                  float scale, Activation activation) {
  for (const LowRankSegment* segment = segments; segment < segments + count; ++segment) {
    for (int64_t row = segment->begin; row < segment->end; ++row) {
      std::vector<float> hidden(static_cast<size_t>(segment->rank));
      for (int64_t k = 0; k < segment->rank; ++k) {
        for (int64_t i = 0; i < in; ++i) hidden[k] += x[row * in + i] * segment->down[k * in + i];
      }
      for (int64_t column = 0; column < out; ++column) {
        float sum = y[row * out + column];
        for (int64_t k = 0; k < segment->rank; ++k) sum += scale * hidden[k] * segment->up[k * out + column];
        y[row * out + column] = activate(sum, activation);
      }
    }
  }
}

}  // namespace usmlite::cpu::reference
