// Activations as they are, times packed weights turned into floats a part at a time.
#include <algorithm>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/gated_linear_unit.hpp"
#include "cpu/matmul.hpp"
#include "cpu/packed_dequantize.hpp"
#include "cpu/packed_matmul.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kPanel = PackedMatrix::kChannels;
// Weights turned to floats at a time, so that they stay in the last-level cache.
constexpr int64_t kFloatWeights = 1 << 18;

}  // namespace

void packed_matmul_float(const PackedMatrix& weight, int64_t m, const float* x, float* y,
                         const MatmulEpilogue& epilogue, const int64_t* starts) {
  const int64_t n = weight.rows(), columns = weight.columns();
  if (epilogue.activation == Activation::kGlu) {
    return gate_afterwards(m, n, y, epilogue, [&](float* sums, const MatmulEpilogue& plain) {
      USMLITE_ISA::packed_matmul_float(weight, m, x, sums, plain, starts);
    });
  }
  MatmulRows rows;
  rows.a = starts;
  if (weight.order() == PackedOrder::kFloat) {
    static_assert(kPrepackedColumns == PackedMatrix::kFloatChannels);
    return USMLITE_ISA::matmul_prepacked(m, n, columns, x, columns, weight.floats(), y, n, epilogue, rows);
  }
  const int64_t panels = std::clamp<int64_t>(kFloatWeights / columns / kPanel, 1, weight.panels());
  Scratch<float> weights(static_cast<size_t>(panels * kPanel * columns));
  for (int64_t panel = 0; panel < weight.panels(); panel += panels) {
    const int64_t count = std::min(panels, weight.panels() - panel), first = panel * kPanel;
    parallel_for(count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        dequantize_panel(weight, panel + i, weights.data() + i * kPanel * columns, columns);
      }
    });
    MatmulEpilogue part = epilogue;
    if (epilogue.bias) part.bias = epilogue.bias + first;
    if (epilogue.residual) part.residual = epilogue.residual + first;
    USMLITE_ISA::matmul(false, true, m, std::min(count * kPanel, n - first), columns, x, columns, weights.data(), columns, 0.0f,
           y + first, n, part, rows);
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
