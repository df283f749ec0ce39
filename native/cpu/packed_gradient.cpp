#include "cpu/packed_gradient.hpp"

#include <algorithm>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/matmul.hpp"
#include "cpu/packed_dequantize.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kPanel = PackedMatrix::kChannels;
// Weights turned to floats at a time, so that they stay in the last-level cache.
constexpr int64_t kFloatWeights = 1 << 18;

}  // namespace

void packed_gradient(const PackedMatrix& weight, int64_t m, const float* gradient_y, float scale, float* gradient_x) {
  const int64_t rows = weight.rows(), columns = weight.columns();
  MatmulEpilogue epilogue;
  epilogue.scale = scale;
  const int64_t panels = std::clamp<int64_t>(kFloatWeights / columns / kPanel, 1, weight.panels());
  Scratch<float> weights(static_cast<size_t>(panels * kPanel * columns));
  for (int64_t panel = 0; panel < weight.panels(); panel += panels) {
    const int64_t count = std::min(panels, weight.panels() - panel), first = panel * kPanel;
    parallel_for(count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float* to = weights.data() + i * kPanel * columns;
        if (weight.order() == PackedOrder::kFloat) weight.dequantize_panel(panel + i, to, columns);
        else dequantize_panel(weight, panel + i, to, columns);
      }
    });
    USMLITE_ISA::matmul(false, false, m, columns, std::min(count * kPanel, rows - first), gradient_y + first, rows,
                        weights.data(), columns, panel == 0 ? 0.0f : 1.0f, gradient_x, columns, epilogue);
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
