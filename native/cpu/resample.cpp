#include "cpu/resample.hpp"

#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kSampleGrain = 512;  // output samples, some 100,000 multiplications

// Four sums keep the multiply-adds from waiting for each other; `taps` is a multiple of 16.
float filtered(const float* x, const float* h, int64_t taps) {
  Vector sums[4] = {Vector::zero(), Vector::zero(), Vector::zero(), Vector::zero()};
  constexpr int64_t kStep = 4 * Vector::kLanes;
  int64_t i = 0;
  for (; i + kStep <= taps; i += kStep) {
    for (int64_t s = 0; s < 4; ++s) {
      const int64_t at = i + s * Vector::kLanes;
      sums[s] = multiply_add(Vector::load(x + at), Vector::load(h + at), sums[s]);
    }
  }
  for (; i < taps; i += Vector::kLanes) sums[0] = multiply_add(Vector::load(x + i), Vector::load(h + i), sums[0]);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum();
}

}  // namespace

void resample(const audio::ResamplePlan& plan, const float* input, int64_t begin, int64_t first, int64_t count,
              float* output) {
  const int64_t taps = 2 * plan.half_width;
  parallel_for(count, kSampleGrain, [&](int64_t n_begin, int64_t n_end) {
    int64_t index = plan.input_index(first + n_begin);
    int64_t rest = static_cast<int64_t>(static_cast<__int128>(first + n_begin) * plan.down % plan.up);
    for (int64_t n = n_begin; n < n_end; ++n) {
      const float* x = input + index - plan.half_width + 1 - begin;
      if (plan.exact) {
        output[n] = filtered(x, plan.table.data() + rest * taps, taps);
      } else {
        const double position =
            static_cast<double>(rest) * static_cast<double>(plan.phases) / static_cast<double>(plan.up);
        const int64_t row = static_cast<int64_t>(position);
        const float between = static_cast<float>(position - static_cast<double>(row));
        const float* h = plan.table.data() + row * taps;
        const float low = filtered(x, h, taps), high = filtered(x, h + taps, taps);
        output[n] = low + between * (high - low);
      }
      rest += plan.down;
      index += rest / plan.up;
      rest %= plan.up;
    }
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
