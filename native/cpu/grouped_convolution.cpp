#include "cpu/grouped_convolution.hpp"

#include <algorithm>

#include "core/allocator.hpp"
#include "cpu/matmul.hpp"

namespace usmlite::cpu::USMLITE_ISA {

void grouped_convolution(const GroupedConvolution& p, const float* x, const float* weight, const float* bias, float* y) {
  const int64_t width = p.group_in(), window = p.kernel * width;
  for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
    const int64_t first = p.offsets[sequence], frames = p.offsets[sequence + 1] - first;
    if (frames == 0) continue;
    // The channels of one group with zeros around them: the window of each frame is then one row of `window` values.
    Scratch<float> padded(static_cast<size_t>((frames + p.kernel - 1) * width));
    std::fill_n(padded.data(), (frames + p.kernel - 1) * width, 0.0f);
    for (int64_t group = 0; group < p.groups; ++group) {
      for (int64_t t = 0; t < frames; ++t) {
        std::copy_n(x + (first + t) * p.in + group * width, width, padded.data() + (p.left + t) * width);
      }
      MatmulEpilogue epilogue;
      epilogue.bias = bias ? bias + group * p.group_out() : nullptr;
      matmul(false, true, frames, p.group_out(), window, padded.data(), width, weight + group * p.group_out() * window, window, 0.0f,
             y + first * p.out + group * p.group_out(), p.out, epilogue);
    }
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
