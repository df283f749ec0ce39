// cuda/ptx_numbers.cuh, emulated: arithmetic on packed numbers.
#pragma once

#include <cmath>

#include "emu/numbers.hpp"

namespace usmlite::cuda::ptx {

template <int Table> inline uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d = 0;
  for (int row = 0; row < 8; ++row)
    if (Table >> row & 1) d |= (row & 4 ? a : ~a) & (row & 2 ? b : ~b) & (row & 1 ? c : ~c);
  return d;
}
inline uint32_t byte_permute(uint32_t low, uint32_t high, uint32_t selector) {
  const uint64_t bytes = static_cast<uint64_t>(high) << 32 | low;
  uint32_t d = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t choice = selector >> 4 * i, byte = bytes >> 8 * (choice & 7) & 0xff;
    d |= (choice & 8 ? (byte & 0x80 ? 0xffu : 0u) : byte) << 8 * i;
  }
  return d;
}
inline uint32_t funnel_shift_right(uint32_t low, uint32_t high, uint32_t shift) {
  return static_cast<uint32_t>((static_cast<uint64_t>(high) << 32 | low) >> (shift & 31));
}

template <typename T> struct Format;
template <> struct Format<BFloat16> {
  static float decode(uint16_t bits) { return emu::decode_bfloat16(bits); }
  static uint16_t round(double value) { return emu::round_to_bfloat16(value); }
};
template <> struct Format<Float16> {
  static float decode(uint16_t bits) { return emu::decode_float16(bits); }
  static uint16_t round(double value) { return emu::round_to_float16(value); }
};

/// Applies `operation`, from doubles to a double, to each half of the words.
template <typename T, typename Operation, typename... Words> inline uint32_t each_half(Operation&& operation, Words... words) {
  const uint16_t low = Format<T>::round(operation(static_cast<double>(Format<T>::decode(static_cast<uint16_t>(words)))...));
  const uint16_t high =
      Format<T>::round(operation(static_cast<double>(Format<T>::decode(static_cast<uint16_t>(words >> 16)))...));
  return static_cast<uint32_t>(high) << 16 | low;
}
template <typename T> inline uint32_t fma2(uint32_t a, uint32_t b, uint32_t c) {
  return each_half<T>([](double x, double y, double z) { return emu::add_rounding_to_odd(x * y, z); }, a, b, c);
}
template <typename T> inline uint32_t multiply2(uint32_t a, uint32_t b) {
  return each_half<T>([](double x, double y) { return x * y; }, a, b);
}
template <typename T> inline uint32_t subtract2(uint32_t a, uint32_t b) {
  return each_half<T>([](double x, double y) { return emu::add_rounding_to_odd(x, -y); }, a, b);
}
template <typename T> inline uint32_t round2(float first, float second) {
  return static_cast<uint32_t>(Format<T>::round(second)) << 16 | Format<T>::round(first);
}
template <typename T> inline float2 floats2(uint32_t pair) {
  return {Format<T>::decode(static_cast<uint16_t>(pair)), Format<T>::decode(static_cast<uint16_t>(pair >> 16))};
}
template <typename T> inline float to_float(uint16_t bits) { return Format<T>::decode(bits); }
template <typename T> inline uint16_t from_float(float value) { return Format<T>::round(value); }

/// `.ftz`: what is smaller than a normal number counts as 0 of its sign, as an operand and as a result.
inline float flushed(float x) { return std::abs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }
inline float exponential(float x) { return flushed(std::exp(x)); }
inline float reciprocal(float x) { return flushed(1.0f / flushed(x)); }
inline int from_here(int x) { return x; }
inline float exponential_base_2(float x) { return std::exp2(x); }
inline float logarithm_base_2(float x) { return std::log2(x); }
inline float reciprocal_square_root(float x) { return 1.0f / std::sqrt(x); }
inline void sine_cosine(float angle, float& sine, float& cosine) { sine = std::sin(angle), cosine = std::cos(angle); }
inline int round_to_int(float x) {
  if (x != x) return 0;
  if (x >= 0x1p31f) return INT32_MAX;
  return x <= -0x1p31f ? INT32_MIN : static_cast<int>(std::nearbyint(x));
}
inline float error_function(float x) { return std::erf(x); }
inline uint32_t bits_of(float x) { return std::bit_cast<uint32_t>(x); }
inline float float_of(uint32_t bits) { return std::bit_cast<float>(bits); }

}  // namespace usmlite::cuda::ptx
