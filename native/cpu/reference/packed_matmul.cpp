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
  float scale, zero_point;
};

QuantizedRow quantize_range(const float* x, int64_t count, QuantizedRow row) {
  const auto [low, high] = std::minmax_element(x, x + count);
  const float scale = *high / 254.0f - *low / 254.0f;
  if (scale < kSmallestActivation) {
    row.scale = 1.0f;
    row.zero_point = 0.0f - *low;
    return row;
  }
  row.scale = scale;
  row.zero_point = -127.0f - *low / scale;
  const float inverse = 1.0f / scale;
  for (int64_t i = 0; i < count; ++i) {
    row.codes[i] = static_cast<int32_t>(std::nearbyint(std::min((x[i] - *low) * inverse, 254.0f)) - 127.0f);
  }
  return row;
}

QuantizedRow quantize(const float* x, int64_t count, ActivationCoding coding) {
  float largest = 0.0f;
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    finite = finite && std::isfinite(x[i]);
  }
  QuantizedRow row{std::vector<int32_t>(static_cast<size_t>(count)), 0.0f, 0.0f};
  if (!finite) {
    row.scale = std::numeric_limits<float>::quiet_NaN();
    return row;
  }
  if (coding == ActivationCoding::kInt8Asymmetric) return quantize_range(x, count, std::move(row));
  if (largest < kSmallestActivation) return row;
  const float limit = coding == ActivationCoding::kInt4 ? 7.0f : 127.0f;
  row.scale = largest / limit;
  const float inverse = limit / largest;
  for (int64_t i = 0; i < count; ++i) row.codes[i] = static_cast<int32_t>(std::nearbyint(x[i] * inverse));
  return row;
}

// y (m, n) or, gated, (m, n / 2) = epilogue of the sums (m, n).
void finish_all(int64_t m, int64_t n, const std::vector<float>& sums, float* y, const MatmulEpilogue& epilogue) {
  const bool gated = epilogue.activation == Activation::kGlu;
  const int64_t columns = gated ? n / 2 : n;
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t at = row * columns + column;
      const float sum = sums[row * n + column];
      if (!gated) {
        y[at] = finish(sum, at, row, column, n, epilogue);
        continue;
      }
      const auto biased = [&](int64_t i) { return sums[row * n + i] + (epilogue.bias ? epilogue.bias[i] : 0.0f); };
      y[at] = biased(column) / (1.0f + std::exp(-biased(columns + column))) * epilogue.scale;
      if (epilogue.residual) y[at] += epilogue.residual_scale * epilogue.residual[at];
    }
  }
}

}  // namespace

void packed_matmul_int8(const PackedMatrix& weight, int64_t m, const float* x, float* y,
                        const MatmulEpilogue& epilogue, const int64_t* starts, ActivationCoding coding,
                        const PackedSchedule*) {
  const int64_t rows = weight.rows(), columns = weight.columns();
  const int64_t group_columns = weight.windows_per_scale() * PackedMatrix::kWindow;
  std::vector<QuantizedRow> inputs;
  for (int64_t frame = 0; frame < m; ++frame) inputs.push_back(quantize(x + (starts ? starts[frame] : frame * columns), columns, coding));
  std::vector<float> sums(static_cast<size_t>(m * rows));
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
      if (coding == ActivationCoding::kInt8Asymmetric) sum = std::fma(-inputs[frame].zero_point, weight.sums(panel)[channel], sum);
      sums[frame * rows + row] = sum * inputs[frame].scale;
    }
  }
  finish_all(m, rows, sums, y, epilogue);
}

void packed_matmul_float(const PackedMatrix& weight, int64_t m, const float* x, float* y,
                         const MatmulEpilogue& epilogue, const int64_t* starts) {
  const int64_t rows = weight.rows(), columns = weight.columns();
  std::vector<float> weights(static_cast<size_t>(weight.panels() * PackedMatrix::kChannels * columns));
  for (int64_t panel = 0; panel < weight.panels(); ++panel) {
    weight.dequantize_panel(panel, weights.data() + panel * PackedMatrix::kChannels * columns, columns);
  }
  std::vector<float> sums(static_cast<size_t>(m * rows));
  for (int64_t frame = 0; frame < m; ++frame) {
    const float* inputs = x + (starts ? starts[frame] : frame * columns);
    for (int64_t row = 0; row < rows; ++row) {
      float sum = 0.0f;
      for (int64_t i = 0; i < columns; ++i) sum += inputs[i] * weights[row * columns + i];
      sums[frame * rows + row] = sum;
    }
  }
  finish_all(m, rows, sums, y, epilogue);
}

}  // namespace usmlite::cpu::reference
