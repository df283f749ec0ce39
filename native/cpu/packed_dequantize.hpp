// Packed weights as floats, one panel at a time.
#pragma once
#include <algorithm>
#include <cstring>

#include "codec/packed_matrix.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// The codes of one window of a panel, channel by channel: codes (16 channels, 16 inputs).
inline void decode_window(const codec::PackedMatrix& matrix, int64_t panel, int64_t window, int8_t* codes) {
  using codec::PackedOrder;
  constexpr int64_t kUnit = codec::PackedMatrix::kUnitBytes, kWindow = codec::PackedMatrix::kWindow;
  const PackedOrder order = matrix.order();
  const bool gather = order == PackedOrder::kGather4 || order == PackedOrder::kGather8;
  if (gather) std::memset(codes, 0, kUnit * 4);
  const int64_t first = window * matrix.units();
  for (int64_t unit = first; unit < first + matrix.units(); ++unit) {
    const bool paired = order == PackedOrder::kDense4;
    const uint8_t* bytes = matrix.codes(panel) + (paired ? unit / 2 : unit) * kUnit;
    const int shift = unit % 2 ? 4 : 0;
    int8_t decoded[kUnit];
    uint8_t places[kUnit];
    switch (order) {
      case PackedOrder::kDense4:
        for (int64_t i = 0; i < kUnit; ++i) decoded[i] = static_cast<int8_t>((bytes[i] >> shift & 15) - 8);
        break;
      case PackedOrder::kGather4:
        for (int64_t i = 0; i < kUnit; ++i) decoded[i] = static_cast<int8_t>((bytes[i] >> 4) - 8);
        for (int64_t i = 0; i < kUnit; ++i) places[i] = bytes[i] & 15;
        break;
      default: std::memcpy(decoded, bytes, kUnit);
    }
    if (order == PackedOrder::kGather8) {
      const uint8_t* inputs = matrix.inputs(panel) + unit / 2 * kUnit;
      for (int64_t i = 0; i < kUnit; ++i) places[i] = inputs[i] >> shift & 15;
    }
    for (int64_t channel = 0; channel < codec::PackedMatrix::kChannels; ++channel) {
      int8_t* to = codes + channel * kWindow;
      if (!gather) {
        std::memcpy(to + (unit - first) * 4, decoded + channel * 4, 4);
        continue;
      }
      // Unused places hold code 0 at input 0, which may belong to another: adding leaves that one alone.
      for (int64_t i = channel * 4; i < channel * 4 + 4; ++i) to[places[i]] = static_cast<int8_t>(to[places[i]] + decoded[i]);
    }
  }
}

/// Like codec::PackedMatrix::dequantize_panel, for integer matrices.
inline void dequantize_panel(const codec::PackedMatrix& matrix, int64_t panel, float* weights, int64_t stride) {
  constexpr int64_t kWindow = codec::PackedMatrix::kWindow, kChannels = codec::PackedMatrix::kChannels;
  const int64_t channels = std::min(kChannels, matrix.rows() - panel * kChannels);
  int8_t codes[kChannels * kWindow];
  for (int64_t window = 0; window < matrix.windows(); ++window) {
    decode_window(matrix, panel, window, codes);
    const float* scales = matrix.scales(panel, window / matrix.windows_per_scale());
    const int64_t inputs = std::min(kWindow, matrix.columns() - window * kWindow);
    for (int64_t channel = 0; channel < channels; ++channel) {
      const Vector scale = Vector::all(scales[channel]);
      float* to = weights + channel * stride + window * kWindow;
      const int8_t* from = codes + channel * kWindow;
      if (inputs == kWindow) {
        for (int64_t i = 0; i < kWindow; i += Vector::kLanes) (Vector::load_signed_bytes(from + i) * scale).store(to + i);
      } else {
        for (int64_t i = 0; i < inputs; ++i) to[i] = static_cast<float>(from[i]) * scales[channel];
      }
    }
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
