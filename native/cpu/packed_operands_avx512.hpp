// What register tiles for AVX-512 multiply, and how the whole numbers of a scale group become floats.
#pragma once
#include <immintrin.h>

#include <cstring>

#include "cpu/packed_decode_avx512.hpp"
#include "cpu/quantized_rows.hpp"

namespace usmlite::cpu::USMLITE_ISA {

inline __m512i four_inputs(const uint8_t* x) {
  int32_t four;
  std::memcpy(&four, x, 4);
  return _mm512_set1_epi32(four);
}
inline __m512i sixteen_inputs(const uint8_t* x) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}

/// Keeps the compiler from moving work on one row of a tile in front of another's: it would run out of registers and
/// keep sums in memory.
inline void finish_before_next(__m512i& sum) { asm volatile("" : "+v"(sum)); }

/// What a tile multiplies: rows of activations by the channels of two panels (or one), scale group after scale group.
struct TileOperands {
  const uint8_t* x;             // (windows, rows, 16)
  const int32_t* input_sums;    // (groups, rows): sums of the activations in a group
  const uint8_t* w[2];          // panels, expanded or in blocks
  const float* scales[2];       // (groups, 16)
  const float* zero_points[2];  // (groups, 16); in formats without anything
  const int32_t* offsets[2];    // (groups, 16); null when dense
  const int32_t* kept_offsets[2];  // (groups, 16); null unless sums_kept
  int64_t windows, windows_per_group;
  int32_t first_level, shift;   // shift: of gathered sums
  bool pointed, doubled;        // has zero points; level_step is 2
};

// The whole numbers of a dense group: level_step * sum + first_level * input sum, as floats, less zero point * input sum.
// With a step of 1 the sums begin with the second term.
struct PlainLevels {
  static int32_t begin(const TileOperands& o, int32_t inputs) { return o.first_level * inputs; }
  static Vector end(const TileOperands&, int32_t, __m512i sum, const float*) { return {_mm512_cvtepi32_ps(sum)}; }
};
struct DoubledLevels {
  static int32_t begin(const TileOperands&, int32_t) { return 0; }
  static Vector end(const TileOperands& o, int32_t inputs, __m512i sum, const float*) {
    return {_mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(sum, 1), _mm512_set1_epi32(o.first_level * inputs)))};
  }
};
struct PointedLevels {
  static int32_t begin(const TileOperands& o, int32_t inputs) { return o.first_level * inputs; }
  static Vector end(const TileOperands&, int32_t inputs, __m512i sum, const float* zero_points) {
    return multiply_add(Vector::zero() - Vector::load(zero_points), Vector::all(static_cast<float>(inputs)), {_mm512_cvtepi32_ps(sum)});
  }
};
template <typename Use>
inline void with_levels(const PackedMatrix& matrix, Use&& use) {
  if (matrix.spec().has_zero_points()) use(PointedLevels{});
  else if (matrix.level_step() == 2) use(DoubledLevels{});
  else use(PlainLevels{});
}

/// sums = whole * scale for the first group, else += .
inline void add_scaled(float* sums, Vector whole, Vector scale, bool first) {
  multiply_add(whole, scale, first ? Vector::zero() : Vector::load(sums)).store(sums);
}

inline TileOperands panel_operands(const PackedMatrix& matrix, const QuantizedRows& x, int64_t tile, int64_t first, int64_t second) {
  const bool gathered = gathers(matrix), pointed = matrix.spec().has_zero_points(), sums_kept = matrix.arrangement().sums_kept;
  const float *first_scales = matrix.scales(first, 0), *second_scales = matrix.scales(second, 0);
  return {x.tile(tile),
          x.sums(tile),
          {matrix.codes(first, 0), matrix.codes(second, 0)},
          {first_scales, second_scales},
          {pointed ? matrix.zero_points(first, 0) : first_scales, pointed ? matrix.zero_points(second, 0) : second_scales},
          {gathered ? matrix.offsets(first, 0) : nullptr, gathered ? matrix.offsets(second, 0) : nullptr},
          {sums_kept ? matrix.kept_offsets(first, 0) : nullptr, sums_kept ? matrix.kept_offsets(second, 0) : nullptr},
          matrix.windows(),
          matrix.windows_per_scale(),
          matrix.first_level(),
          gathered ? gather_shift(matrix) : 0,
          pointed,
          matrix.level_step() == 2};
}

}  // namespace usmlite::cpu::USMLITE_ISA
