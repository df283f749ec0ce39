#include "cpu/packed_gradient.hpp"

#include <algorithm>
#include <vector>

namespace usmlite::cpu::reference {

void packed_gradient(const codec::PackedMatrix& weight, int64_t m, const float* gradient_y, float scale, float* gradient_x) {
  constexpr int64_t kChannels = codec::PackedMatrix::kChannels;
  const int64_t rows = weight.rows(), columns = weight.columns();
  std::vector<float> weights(static_cast<size_t>(kChannels * columns));
  std::fill_n(gradient_x, m * columns, 0.0f);
  for (int64_t panel = 0; panel < weight.panels(); ++panel) {
    weight.dequantize_panel(panel, weights.data(), columns);
    const int64_t first = panel * kChannels, channels = std::min(kChannels, rows - first);
    for (int64_t frame = 0; frame < m; ++frame) {
      for (int64_t channel = 0; channel < channels; ++channel) {
        const float factor = scale * gradient_y[frame * rows + first + channel];
        for (int64_t i = 0; i < columns; ++i) gradient_x[frame * columns + i] += factor * weights[channel * columns + i];
      }
    }
  }
}

}  // namespace usmlite::cpu::reference
