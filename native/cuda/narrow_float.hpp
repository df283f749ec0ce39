// Floats of 16 and 8 bits on the host, rounded to nearest, ties to even.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace usmlite::cuda {

inline uint16_t to_bfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float from_bfloat16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

/// Largest magnitudes of the formats; what is larger becomes infinity (kFloat8 has none: NaN).
inline constexpr float kLargestFloat16 = 65504.0f;
inline constexpr float kLargestFloat8 = 448.0f;

/// A float with `exponent` and `mantissa` bits, gradual underflow and the usual bias; |value| must be in its range.
inline uint32_t to_small_float(float value, int exponent, int mantissa) {
  const uint32_t sign = std::signbit(value) ? 1u << (exponent + mantissa) : 0u;
  const int bias = (1 << (exponent - 1)) - 1;
  const float magnitude = std::fabs(value);
  // Steps of the smallest binade at least; nearbyint rounds ties to even.
  const int binade = magnitude == 0.0f ? 1 - bias : std::max(std::ilogb(magnitude), 1 - bias);
  const auto steps = static_cast<uint32_t>(std::nearbyint(std::ldexp(magnitude, mantissa - binade)));
  // A rounded-up mantissa carries into the exponent by itself.
  return sign | (steps + (static_cast<uint32_t>(binade + bias - 1) << mantissa));
}

inline uint16_t to_float16(float value) {
  if (std::isnan(value)) return 0x7e00;
  if (std::fabs(value) >= kLargestFloat16 + 16.0f) return std::signbit(value) ? 0xfc00 : 0x7c00;
  return static_cast<uint16_t>(to_small_float(value, 5, 10));
}

/// Of a finite number.
inline float from_float16(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
  const float magnitude =
      exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24) : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

/// |value| <= kLargestFloat8
inline uint8_t to_float8(float value) { return static_cast<uint8_t>(to_small_float(value, 4, 3)); }

}  // namespace usmlite::cuda
