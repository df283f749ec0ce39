// Packed weights as floats, one panel at a time.
#pragma once
#include <algorithm>
#include <cstring>

#include "core/allocator.hpp"
#include "cpu/packed_tile.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// Like codec::PackedMatrix::dequantize_panel, faster.
inline void dequantize_panel(const PackedMatrix& matrix, int64_t panel, float* weights, int64_t stride) {
  constexpr int64_t kWindow = PackedMatrix::kWindow, kChannels = PackedMatrix::kChannels;
  if (codec::is_gather(matrix.order()) || matrix.order() == PackedOrder::kRows) return matrix.dequantize_panel(panel, weights, stride);
  const int64_t channels = std::min(kChannels, matrix.rows() - panel * kChannels);
  const Vector step = Vector::all(static_cast<float>(level_step(matrix))), first = Vector::all(static_cast<float>(first_level(matrix)));
  Scratch<uint8_t> expanded(static_cast<size_t>(matrix.windows() * expanded_window_bytes(matrix)));
  const uint8_t* units = expand_panel(matrix, panel, expanded.data());
  for (int64_t window = 0; window < matrix.windows(); ++window, units += 4 * PackedMatrix::kUnitBytes) {
    const int64_t group = window / matrix.windows_per_scale();
    const int64_t inputs = std::min(kWindow, matrix.columns() - window * kWindow);
    for (int64_t channel = 0; channel < channels; ++channel) {
      int8_t codes[kWindow + Vector::kLanes] = {};
      for (int64_t unit = 0; unit < 4; ++unit) std::memcpy(codes + unit * 4, units + unit * PackedMatrix::kUnitBytes + channel * 4, 4);
      const Vector scale = Vector::all(matrix.scales(panel, group)[channel]);
      const Vector zero_point = Vector::all(matrix.zero_points(panel, group) ? matrix.zero_points(panel, group)[channel] : 0.0f);
      float* to = weights + channel * stride + window * kWindow;
      for_each_vector(inputs, [&](int64_t i, int64_t lanes) {
        const Vector code = expands_signed(matrix) ? Vector::load_signed_bytes(codes + i)
                                                   : Vector::load_bytes(reinterpret_cast<const uint8_t*>(codes) + i, lanes);
        const Vector level = multiply_add(code, step, first);
        ((level - zero_point) * scale).store(to + i, lanes);
      });
    }
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
