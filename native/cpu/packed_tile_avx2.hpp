// Products of a tile of rows with packed weights for AVX2: group after group, products in whole numbers become floats.
#pragma once
#include "cpu/packed_product_avx2.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// The largest magnitude of an expanded code of at most four bits.
inline int64_t largest_small_code(const PackedMatrix& matrix) {
  switch (matrix.order()) {
    case PackedOrder::kDense1: return 1;
    case PackedOrder::kDense2: return 3;
    case PackedOrder::kGather4: return matrix.spec().format == codec::NumberFormat::kMidRise ? 15 : 8;  // signed
    default: return 15;
  }
}
/// Windows whose products 16 bits hold, `units` of them in each: a lane sums two products of an activation (at most 255
/// unsigned, 127 signed) and the largest weight in every unit.
inline int64_t run_windows(const PackedMatrix& matrix) {
  if (kVnni) return PackedMatrix::kMaximumColumns;
  return 32767 / (2 * (gathers(matrix) ? 255 : 127) * largest_small_code(matrix)) / matrix.arrangement().units;
}

/// What is summed: products, or the inputs whose weights are kept.
enum class Summed { kProducts, kKept };

/// multiply(first window, windows, add) for each run.
template <typename Multiply>
void in_runs(int64_t windows, int64_t run, Multiply&& multiply) {
  for (int64_t first = 0; first < windows; first += run) multiply(first, std::min(run, windows - first), first > 0);
}

template <int64_t Rows, int64_t Units, Summed kSummed>
void multiply_gathered(const uint8_t* x, const uint8_t* w, int64_t windows, int64_t run, int32_t* sums) {
  for (int64_t half = 0; half < 2; ++half) {
    in_runs(windows, run, [&](int64_t first, int64_t count, bool add) {
      multiply_gathered<Rows, Units, kSummed == Summed::kKept>(x + first * Rows * 16, w + first * Units * 128 + 32 * half, count, sums + 8 * half,
                                                               add);
    });
  }
}

template <int64_t Rows>
void multiply_small(const uint8_t* x, const uint8_t* w, int64_t windows, int64_t run, int32_t* sums) {
  in_runs(windows, run, [&](int64_t first, int64_t count, bool add) {
    multiply_small<Rows>(x + first * Rows * 16, w + first * 256, count, sums, add);
  });
}

template <int64_t Rows, Summed kSummed>
void multiply_rows(const PackedMatrix& matrix, const uint8_t* x, const uint8_t* w, int64_t windows, int32_t* sums) {
  if (gathers(matrix)) {
    if (matrix.arrangement().units == 1) multiply_gathered<Rows, 1, kSummed>(x, w, windows, run_windows(matrix), sums);
    else multiply_gathered<Rows, 2, kSummed>(x, w, windows, run_windows(matrix), sums);
  } else if (kSummed == Summed::kKept) {
    if constexpr (Rows <= kSmallTileRows) multiply_small<Rows>(x, w, windows, 32767 / (2 * 127 * 4), sums);
  } else if (kVnni || has_small_codes(matrix)) {
    if constexpr (Rows <= kSmallTileRows) multiply_small<Rows>(x, w, windows, run_windows(matrix), sums);
  } else {
    if constexpr (Rows <= kByteTileRows) multiply_bytes<Rows>(x, w, windows, sums);
  }
}

template <Summed kSummed, int64_t Rows = kTileRows>
void multiply_panel(const PackedMatrix& matrix, int64_t rows, const uint8_t* x, const uint8_t* w, int64_t windows, int32_t* sums) {
  if constexpr (Rows > 1) {
    if (rows < Rows) return multiply_panel<kSummed, Rows - 1>(matrix, rows, x, w, windows, sums);
  }
  multiply_rows<Rows, kSummed>(matrix, x, w, windows, sums);
}

/// Sums of one panel, (rows, 16 of 32): products, and where arrangement().sums_kept the inputs whose weights are kept.
struct GroupSums {
  alignas(64) int32_t products[kTileRows * kPairChannels];
  alignas(64) int32_t kept[kTileRows * kPairChannels];
};

inline void multiply_group(const PackedMatrix& matrix, int64_t rows, const uint8_t* x, const uint8_t* w, int64_t windows,
                           int64_t half, GroupSums& sums) {
  multiply_panel<Summed::kProducts>(matrix, rows, x, w, windows, sums.products + half * 16);
  if (!matrix.arrangement().sums_kept) return;
  const uint8_t* ones = has_ones(matrix) ? w + matrix.windows() * 256 : w;
  multiply_panel<Summed::kKept>(matrix, rows, x, ones, windows, sums.kept + half * 16);
}

/// sums (rows, 16 of 32) of floats = or += what the products of one scale group stand for * its scales.
inline void add_group(const PackedMatrix& matrix, const QuantizedRows& x, int64_t tile, int64_t panel, int64_t group, int64_t half,
                      const GroupSums& from, float* sums) {
  const bool biased = gathers(matrix), pointed = matrix.spec().has_zero_points(), sums_kept = matrix.arrangement().sums_kept;
  const __m256i first = _mm256_set1_epi32(first_level(matrix));
  const __m128i step_shift = _mm_cvtsi32_si128(level_step(matrix) - 1);
  const int32_t* inputs = x.sums(tile) + group * x.height();
  for (int64_t channel = 0; channel < PackedMatrix::kChannels; channel += Vector::kLanes) {
    const Vector scale = Vector::load(matrix.scales(panel, group) + channel);
    const Vector zero_point = pointed ? Vector::load(matrix.zero_points(panel, group) + channel) : Vector::zero();
    const __m256i offsets = biased ? load(matrix.offsets(panel, group) + channel) : _mm256_setzero_si256();
    const __m256i kept_offsets = biased && sums_kept ? load(matrix.kept_offsets(panel, group) + channel) : _mm256_setzero_si256();
    for (int64_t r = 0; r < x.height(); ++r) {
      const int64_t at = r * kPairChannels + half * 16 + channel;
      // The sum of the inputs that first_level and zero point belong to; gathered codes without sums_kept have neither.
      __m256i kept = _mm256_setzero_si256();
      if (sums_kept) kept = _mm256_sub_epi32(load(from.kept + at), kept_offsets);
      else if (!biased) kept = _mm256_set1_epi32(inputs[r]);
      __m256i total = _mm256_sub_epi32(load(from.products + at), offsets);
      if (sums_kept || !biased) total = _mm256_add_epi32(_mm256_sll_epi32(total, step_shift), _mm256_mullo_epi32(first, kept));
      Vector whole{_mm256_cvtepi32_ps(total)};
      if (pointed) whole = multiply_add(Vector::zero() - zero_point, {_mm256_cvtepi32_ps(kept)}, whole);
      multiply_add(whole, scale, group == 0 ? Vector::zero() : Vector::load(sums + at)).store(sums + at);
    }
  }
}

/// sums (rows, 32) = x . two expanded panels.
inline void multiply_expanded(const PackedMatrix& matrix, const QuantizedRows& x, int64_t tile, int64_t first, int64_t second,
                              const uint8_t* w0, const uint8_t* w1, float* sums) {
  GroupSums of_group;
  const int64_t rows = x.height(), window_bytes = gathers(matrix) ? expanded_window_bytes(matrix) : 256;
  for (int64_t group = 0; group < matrix.scale_groups(); ++group) {
    const int64_t window = group * matrix.windows_per_scale();
    const int64_t windows = std::min(matrix.windows_per_scale(), matrix.windows() - window);
    const uint8_t* inputs = x.tile(tile) + window * rows * 16;
    for (int64_t half = 0; half < (w1 == w0 ? 1 : 2); ++half) {
      const uint8_t* w = (half == 0 ? w0 : w1) + window * window_bytes;
      multiply_group(matrix, rows, inputs, w, windows, half, of_group);
      add_group(matrix, x, tile, half == 0 ? first : second, group, half, of_group, sums);
    }
  }
}

/// There are too few registers to multiply by codes while they are decoded.
inline constexpr int64_t kFewRows = 0;
// Never called: no product has so few rows.
inline int64_t few_rows_tile(int64_t rows) { return rows; }
inline void multiply_few(const PackedMatrix&, const QuantizedRows&, int64_t, int64_t, int64_t, float*) {}

}  // namespace usmlite::cpu::USMLITE_ISA
