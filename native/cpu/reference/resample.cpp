#include "cpu/resample.hpp"

namespace usmlite::cpu::reference {

void resample(const audio::ResamplePlan& plan, const float* input, int64_t begin, int64_t first, int64_t count,
              float* output) {
  const int64_t taps = 2 * plan.half_width;
  for (int64_t n = 0; n < count; ++n) {
    const int64_t index = plan.input_index(first + n);
    const int64_t rest = static_cast<int64_t>(static_cast<__int128>(first + n) * plan.down % plan.up);
    const double position = static_cast<double>(rest) * static_cast<double>(plan.phases) / static_cast<double>(plan.up);
    const int64_t row = plan.exact ? rest : static_cast<int64_t>(position);
    const double between = plan.exact ? 0 : position - static_cast<double>(row);
    const float* x = input + index - plan.half_width + 1 - begin;
    const float* h = plan.table.data() + row * taps;
    double sum = 0;
    for (int64_t i = 0; i < taps; ++i) sum += x[i] * (h[i] + between * (h[taps + i] - h[i]));
    output[n] = static_cast<float>(sum);
  }
}

}  // namespace usmlite::cpu::reference
