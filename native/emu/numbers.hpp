// The number formats of tensor cores, decoded exactly and rounded once, to nearest with ties to even.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

namespace usmlite::emu {

inline float decode_bfloat16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

inline float decode_float16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
  if (exponent == 0) return std::copysign(static_cast<float>(mantissa) * 0x1p-24f, sign ? -1.0f : 1.0f);
  return std::bit_cast<float>(sign | (exponent == 31 ? 255 : exponent + 112) << 23 | mantissa << 13);
}

/// Four bits of exponent, three of mantissa, no infinities; 0x7f and 0xff are NaN.
inline float decode_float8_e4m3(uint8_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x80) << 24, exponent = bits >> 3 & 15, mantissa = bits & 7;
  if ((bits & 0x7f) == 0x7f) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (exponent == 0) return std::copysign(static_cast<float>(mantissa) * 0x1p-9f, sign ? -1.0f : 1.0f);
  return std::bit_cast<float>(sign | (exponent + 120) << 23 | mantissa << 20);
}

/// A double as a 16-bit float with `Mantissa` bits of mantissa; any NaN becomes 0x7fff, as the hardware's.
template <int Mantissa> inline uint16_t round_to_16_bits(double value) {
  constexpr int kExponent = 15 - Mantissa, kBias = (1 << (kExponent - 1)) - 1, kShift = 52 - Mantissa;
  constexpr uint64_t kInfinity = ((uint64_t{1} << kExponent) - 1) << Mantissa;
  if (value != value) return 0x7fff;
  const uint64_t all = std::bit_cast<uint64_t>(value), sign = all >> 63 << 15, bits = all & ~(uint64_t{1} << 63);
  const int exponent = static_cast<int>(bits >> 52) - 1023;
  if (exponent > kBias) return static_cast<uint16_t>(sign | kInfinity);
  if (exponent >= 1 - kBias) {
    const uint64_t rounded = bits + ((uint64_t{1} << (kShift - 1)) - 1) + (bits >> kShift & 1);
    return static_cast<uint16_t>(sign | ((rounded >> kShift) - (static_cast<uint64_t>(1023 - kBias) << Mantissa)));
  }
  const int shift = kShift + (1 - kBias - exponent);
  if (shift > 54) return static_cast<uint16_t>(sign);  // less than half of the least number
  const uint64_t mantissa = (bits & ((uint64_t{1} << 52) - 1)) | uint64_t{1} << 52;
  const uint64_t rounded = mantissa + ((uint64_t{1} << (shift - 1)) - 1) + (mantissa >> shift & 1);
  return static_cast<uint16_t>(sign | rounded >> shift);
}

inline uint16_t round_to_bfloat16(double value) { return round_to_16_bits<7>(value); }
inline uint16_t round_to_float16(double value) { return round_to_16_bits<10>(value); }

/// a + b, where the exact sum is no double the neighbour whose last bit is 1: rounding it again to fewer bits then gives
/// what rounding the exact sum gives.
inline double add_rounding_to_odd(double a, double b) {
  const double sum = a + b;
  if (!std::isfinite(sum)) return sum;
  const double part = sum - a, error = (a - (sum - part)) + (b - part);
  const uint64_t bits = std::bit_cast<uint64_t>(sum);
  if (error == 0 || (bits & 1)) return sum;
  return std::bit_cast<double>((error > 0) == (sum > 0) ? bits + 1 : bits - 1);
}

}  // namespace usmlite::emu
