#include "cpu/packed_matmul.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/reference/matmul_finish.hpp"

namespace usmlite::cpu::reference {
namespace {

using codec::PackedMatrix;

struct QuantizedRow {
  std::vector<int32_t> codes;
  float scale;
};

QuantizedRow quantize(const float* x, int64_t count) {
  float largest = 0.0f;
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    finite = finite && std::isfinite(x[i]);
  }
  QuantizedRow row{std::vector<int32_t>(static_cast<size_t>(count)), 0.0f};
  if (!finite) row.scale = std::numeric_limits<float>::quiet_NaN();
  if (!finite || largest < kSmallestActivation) return row;
  row.scale = largest / 127.0f;
  const float inverse = 127.0f / largest;
  for (int64_t i = 0; i < count; ++i) row.codes[i] = static_cast<int32_t>(std::nearbyint(x[i] * inverse));
  return row;
}

}  // namespace

void packed_matmul_int8(const PackedMatrix& weight, int64_t m, const float* x, float* y,
                        const MatmulEpilogue& epilogue, const int64_t* starts) {
  const int64_t rows = weight.rows(), columns = weight.columns();
  const int64_t group_columns = weight.windows_per_scale() * PackedMatrix::kWindow;
  std::vector<QuantizedRow> inputs;
  for (int64_t frame = 0; frame < m; ++frame) inputs.push_back(quantize(x + (starts ? starts[frame] : frame * columns), columns));
  std::vector<int32_t> levels(static_cast<size_t>(columns));
  std::vector<uint8_t> mask(static_cast<size_t>(columns));
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t panel = row / PackedMatrix::kChannels, channel = row % PackedMatrix::kChannels;
    weight.unpack_row(row, levels.data(), mask.data());
    for (int64_t frame = 0; frame < m; ++frame) {
      float sum = 0.0f;
      for (int64_t group = 0; group < weight.scale_groups(); ++group) {
        const int64_t end = std::min((group + 1) * group_columns, columns);
        int32_t products = 0, kept = 0;  // kept: sum of the inputs whose weight is
        for (int64_t i = group * group_columns; i < end; ++i) {
          products += inputs[frame].codes[i] * levels[i];
          if (mask[i]) kept += inputs[frame].codes[i];
        }
        float whole = static_cast<float>(products);
        if (weight.zero_points(panel, group)) {
          whole = std::fma(-weight.zero_points(panel, group)[channel], static_cast<float>(kept), whole);
        }
        sum = std::fma(whole, weight.scales(panel, group)[channel], sum);
      }
      const int64_t at = frame * rows + row;
      y[at] = finish(sum * inputs[frame].scale, at, frame, row, rows, epilogue);
    }
  }
}

void packed_matmul_float(const PackedMatrix& weight, int64_t m, const float* x, float* y,
                         const MatmulEpilogue& epilogue, const int64_t* starts) {
  const int64_t rows = weight.rows(), columns = weight.columns();
  std::vector<float> weights(static_cast<size_t>(weight.panels() * PackedMatrix::kChannels * columns));
  for (int64_t panel = 0; panel < weight.panels(); ++panel) {
    weight.dequantize_panel(panel, weights.data() + panel * PackedMatrix::kChannels * columns, columns);
  }
  for (int64_t frame = 0; frame < m; ++frame) {
    const float* inputs = x + (starts ? starts[frame] : frame * columns);
    for (int64_t row = 0; row < rows; ++row) {
      float sum = 0.0f;
      for (int64_t i = 0; i < columns; ++i) sum += inputs[i] * weights[row * columns + i];
      const int64_t at = frame * rows + row;
      y[at] = finish(sum, at, frame, row, rows, epilogue);
    }
  }
}

}  // namespace usmlite::cpu::reference
