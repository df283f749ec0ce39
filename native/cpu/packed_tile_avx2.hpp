// Register tiles of whole-number products for AVX2, with or without AVX-VNNI.
//
// With it vpdpbusd sums four products of unsigned and signed bytes in 32 bits. Without it vpmaddubsw sums two in 16, which
// holds several sums of weights of at most four bits before they must be widened; larger weights are multiplied as
// |w| * sign(w) x, whose sum of two just fits (2 * 128 * 127 < 2^15), and widened each time.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "codec/packed_matrix.hpp"
#include "codec/panel_codes.hpp"
#include "cpu/quantized_rows.hpp"

namespace usmlite::cpu::USMLITE_ISA {

using codec::PackedOrder;

#if defined(__AVXVNNI__)
inline constexpr bool kVnni = true;
#else
inline constexpr bool kVnni = false;
#endif

inline constexpr int64_t kSmallTileRows = 6;    // x 16 channels: 12 accumulators, 2 of weights, activations, product
inline constexpr int64_t kByteTileRows = 4;     // x 16 channels: 8 accumulators, 4 of weights, activations, product, ones
inline constexpr int64_t kGatherTileRows = 10;  // x 8 channels: 10 accumulators, weights, places, activations, ..
inline constexpr int64_t kTileRows = kGatherTileRows;
/// There are too few registers to multiply by codes while they are decoded.
inline constexpr int64_t kFewRows = 0;

inline bool has_lookup(const PackedMatrix& matrix) { return matrix.spec().format == codec::NumberFormat::kNormalFloat4; }
/// Whether every stored value has at most four bits.
inline bool has_small_codes(const PackedMatrix& matrix) {
  return matrix.order() != PackedOrder::kDense8 && matrix.order() != PackedOrder::kGather8 && !has_lookup(matrix);
}
/// Whether the activations that gathered codes multiply are picked out; other gathered codes are spread out first.
inline bool gathers(const PackedMatrix& matrix) {
  return codec::is_gather(matrix.order()) && (kVnni || has_small_codes(matrix));
}
inline int64_t tile_rows(const PackedMatrix& matrix) {
  if (gathers(matrix)) return kGatherTileRows;
  return kVnni || has_small_codes(matrix) ? kSmallTileRows : kByteTileRows;
}
// Without VNNI bytes are expanded as signed numbers: levels where they were looked up or spread, else stored value - 128.
inline bool expands_levels(const PackedMatrix& matrix) {
  return !kVnni && (has_lookup(matrix) || codec::is_gather(matrix.order()));
}
/// Whether the expanded bytes are signed.
inline bool expands_signed(const PackedMatrix& matrix) { return !kVnni && !has_small_codes(matrix); }
inline int32_t level_step(const PackedMatrix& matrix) { return expands_levels(matrix) ? 1 : matrix.level_step(); }
inline int32_t first_level(const PackedMatrix& matrix) {
  if (expands_levels(matrix)) return 0;
  return matrix.first_level() + (kVnni || has_small_codes(matrix) ? 0 : 128 * matrix.level_step());
}

inline __m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void store(void* to, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }
/// Bits [shift, shift + 8 - ..) of every byte that `mask` selects.
inline __m256i field(__m256i bytes, int shift, int mask) {
  return _mm256_and_si256(_mm256_srli_epi16(bytes, shift), _mm256_set1_epi8(static_cast<char>(mask)));
}

/// 16 bytes for vpshufb: what each nibble of kDense4 or kGather4 is expanded to.
inline __m256i nibble_table(const PackedMatrix& matrix) {
  alignas(16) int8_t table[16];
  for (int nibble = 0; nibble < 16; ++nibble) {
    int32_t value = nibble;
    if (has_lookup(matrix)) {
      const bool biased = kVnni && codec::is_dense(matrix.order());
      value = codec::kNormalFloat4Levels[static_cast<size_t>(nibble)] + (biased ? 127 : 0);
    } else if (codec::is_gather(matrix.order())) {
      value = (static_cast<int8_t>(nibble << 4) + matrix.nibble_rest()) >> matrix.nibble_shift();
    }
    table[nibble] = static_cast<int8_t>(value);
  }
  return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
}

inline void expand_dense_block(const PackedMatrix& matrix, const uint8_t* block, __m256i table, uint8_t* to) {
  switch (matrix.order()) {
    case PackedOrder::kDense1:
      for (int64_t half = 0; half < 64; half += 32) {
        const __m256i bytes = load(block + half);
        for (int unit = 0; unit < 8; ++unit) store(to + unit * 64 + half, field(bytes, unit, 1));
      }
      return;
    case PackedOrder::kDense2:
      for (int64_t half = 0; half < 64; half += 32) {
        const __m256i bytes = load(block + half);
        for (int unit = 0; unit < 4; ++unit) store(to + unit * 64 + half, field(bytes, 2 * unit, 3));
      }
      return;
    case PackedOrder::kDense4:
      for (int64_t i = 0; i < 128; i += 32) {
        const __m256i bytes = load(block + i);
        uint8_t* out = to + i / 64 * 128 + i % 64;
        store(out, _mm256_shuffle_epi8(table, field(bytes, 0, 15)));
        store(out + 64, _mm256_shuffle_epi8(table, field(bytes, 4, 15)));
      }
      return;
    default: {
      const __m256i flip = _mm256_set1_epi8(kVnni ? 0 : -128);
      for (int64_t i = 0; i < 256; i += 32) store(to + i, _mm256_xor_si256(load(block + i), flip));
    }
  }
}

// One block: for every unit its codes, 64 bytes, then their places.
inline void expand_gathered_block(const PackedMatrix& matrix, const uint8_t* block, __m256i table, uint8_t* to) {
  const bool bytes = matrix.order() == PackedOrder::kGather8;
  const uint8_t* places = block + (bytes ? 256 : 128);
  for (int unit = 0; unit < 4; ++unit, to += 128) {
    const int32_t begins = matrix.arrangement().units == 1 ? 0x0C080400 : unit % 2 == 0 ? 0x04040000 : 0x0C0C0808;
    for (int64_t half = 0; half < 64; half += 32) {
      const __m256i codes = bytes ? load(block + unit * 64 + half)
                                  : _mm256_shuffle_epi8(table, field(load(block + unit / 2 * 64 + half), unit % 2 * 4, 15));
      store(to + half, codes);
      store(to + 64 + half, _mm256_or_si256(field(load(places + half), 2 * unit, 3), _mm256_set1_epi32(begins)));
    }
  }
}

// One block of codes with places as dense units of levels.
inline void spread_block(const PackedMatrix& matrix, const uint8_t* gathered, uint8_t* to) {
  const int64_t units = matrix.arrangement().units;
  std::memset(to, 0, static_cast<size_t>(matrix.arrangement().block_windows() * 256));
  for (int64_t unit = 0; unit < 4; ++unit, gathered += 128) {
    uint8_t* window = to + unit / units * 256;
    for (int64_t i = 0; i < 64; ++i) {
      const int64_t place = gathered[64 + i];
      if (gathered[i]) window[place / 4 * 64 + i / 4 * 4 + place % 4] = gathered[i];
    }
  }
}

inline int64_t expanded_window_bytes(const PackedMatrix& matrix) {
  return gathers(matrix) ? matrix.arrangement().units * 128 : 256;
}
/// The bytes that tiles multiply by; `to` has room for a panel.
inline const uint8_t* expand_panel(const PackedMatrix& matrix, int64_t panel, uint8_t* to) {
  const __m256i table = nibble_table(matrix);
  const int64_t step = matrix.arrangement().block_windows();
  uint8_t* out = to;
  for (int64_t window = 0; window < matrix.windows(); window += step, out += step * expanded_window_bytes(matrix)) {
    const uint8_t* block = matrix.codes(panel, window);
    if (codec::is_dense(matrix.order())) {
      expand_dense_block(matrix, block, table, out);
    } else if (gathers(matrix)) {
      expand_gathered_block(matrix, block, table, out);
    } else {
      uint8_t gathered[4 * 128];
      expand_gathered_block(matrix, block, table, gathered);
      spread_block(matrix, gathered, out);
    }
  }
  return to;
}

/// Keeps the compiler from moving work on one row of a tile in front of another's: it would run out of registers and
/// keep sums in memory.
inline void finish_before_next(__m256i& sum) { asm volatile("" : "+x"(sum)); }

/// to = sum, or += sum
inline void put_sums(int32_t* to, __m256i sum, bool add) { store(to, add ? _mm256_add_epi32(load(to), sum) : sum); }

inline __m256i four_inputs(const uint8_t* x) {
  int32_t four;
  std::memcpy(&four, x, 4);
  return _mm256_set1_epi32(four);
}

/// sum += products of unsigned `a` and signed `b`: in 32 bits with VNNI, else in 16.
inline __m256i multiply_into(__m256i sum, __m256i a, __m256i b) {
#if defined(__AVXVNNI__)
  return _mm256_dpbusd_avx_epi32(sum, a, b);
#else
  return _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, b));
#endif
}
inline __m256i widened(__m256i sum) { return kVnni ? sum : _mm256_madd_epi16(sum, _mm256_set1_epi16(1)); }

// sums (Rows, 16 of 32) = x (windows, Rows, 16) . one panel of unsigned bytes; sums are widened after `run` windows. Out of
// line, so that the sums have all registers.
template <int64_t Rows>
[[gnu::noinline]] void multiply_small(const uint8_t* x, const uint8_t* w, int64_t windows, int64_t run, int32_t* sums) {
  for (int64_t done = 0; done < windows; done += run) {
    __m256i sum[Rows][2];
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
    for (int64_t window = std::min(run, windows - done); window > 0; --window, x += Rows * 16, w += 256) {
      for (int64_t unit = 0; unit < 4; ++unit) {
        const __m256i w0 = load(w + unit * 64), w1 = load(w + unit * 64 + 32);
#pragma GCC unroll 16
        for (int64_t r = 0; r < Rows; ++r) {
          const __m256i inputs = four_inputs(x + r * 16 + unit * 4);
          sum[r][0] = multiply_into(sum[r][0], w0, inputs);
          sum[r][1] = multiply_into(sum[r][1], w1, inputs);
          finish_before_next(sum[r][0]);
          finish_before_next(sum[r][1]);
        }
      }
    }
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) {
      put_sums(sums + r * kPairChannels, widened(sum[r][0]), done > 0);
      put_sums(sums + r * kPairChannels + 8, widened(sum[r][1]), done > 0);
    }
  }
}

// The same for signed bytes, without VNNI.
template <int64_t Rows>
[[gnu::noinline]] void multiply_bytes(const uint8_t* x, const uint8_t* w, int64_t windows, int32_t* sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sum[Rows][2];
#pragma GCC unroll 16
  for (int64_t r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
  for (; windows > 0; --windows, x += Rows * 16, w += 256) {
    for (int64_t unit = 0; unit < 4; ++unit) {
      const __m256i w0 = load(w + unit * 64), w1 = load(w + unit * 64 + 32);
      const __m256i size0 = _mm256_abs_epi8(w0), size1 = _mm256_abs_epi8(w1);
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) {
        const __m256i inputs = four_inputs(x + r * 16 + unit * 4);
        const __m256i pairs0 = _mm256_maddubs_epi16(size0, _mm256_sign_epi8(inputs, w0));
        const __m256i pairs1 = _mm256_maddubs_epi16(size1, _mm256_sign_epi8(inputs, w1));
        sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(pairs0, ones));
        sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(pairs1, ones));
        finish_before_next(sum[r][0]);
        finish_before_next(sum[r][1]);
      }
    }
  }
#pragma GCC unroll 16
  for (int64_t r = 0; r < Rows; ++r) {
    store(sums + r * kPairChannels, sum[r][0]);
    store(sums + r * kPairChannels + 8, sum[r][1]);
  }
}

// sums (Rows, 8 of 32) = x . one half of the channels of a gathered panel: for each channel vpshufb picks the activations
// that its codes multiply out of the 16 of a window.
template <int64_t Rows, int64_t Units>
[[gnu::noinline]] void multiply_gathered(const uint8_t* x, const uint8_t* w, int64_t windows, int64_t run, int32_t* sums) {
  for (int64_t done = 0; done < windows; done += run) {
    __m256i sum[Rows];
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) sum[r] = _mm256_setzero_si256();
    for (int64_t window = std::min(run, windows - done); window > 0; --window, x += Rows * 16) {
#pragma GCC unroll 2
      for (int64_t unit = 0; unit < Units; ++unit, w += 128) {
        const __m256i codes = load(w), places = load(w + 64);
#pragma GCC unroll 16
        for (int64_t r = 0; r < Rows; ++r) {
          const __m256i inputs = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + r * 16)));
          sum[r] = multiply_into(sum[r], _mm256_shuffle_epi8(inputs, places), codes);
          finish_before_next(sum[r]);
        }
      }
    }
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) put_sums(sums + r * kPairChannels, widened(sum[r]), done > 0);
  }
}

/// Windows whose products 16 bits hold, `units` of them in each: a lane sums two products of an activation (at most 255
/// unsigned, 127 signed) and the largest weight in every unit.
inline int64_t run_windows(const PackedMatrix& matrix) {
  if (kVnni) return PackedMatrix::kMaximumColumns;
  int64_t largest = 15;
  if (matrix.order() == PackedOrder::kDense2) largest = 3;
  if (matrix.order() == PackedOrder::kDense1) largest = 1;
  return 32767 / (2 * (gathers(matrix) ? 255 : 127) * largest) / matrix.arrangement().units;
}

template <int64_t Rows>
void multiply_rows(const PackedMatrix& matrix, const uint8_t* x, const uint8_t* w, int64_t windows, int32_t* sums) {
  if (gathers(matrix)) {
    for (int64_t half = 0; half < 2; ++half) {
      if (matrix.arrangement().units == 1) multiply_gathered<Rows, 1>(x, w + 32 * half, windows, run_windows(matrix), sums + 8 * half);
      else multiply_gathered<Rows, 2>(x, w + 32 * half, windows, run_windows(matrix), sums + 8 * half);
    }
  } else if (kVnni || has_small_codes(matrix)) {
    if constexpr (Rows <= kSmallTileRows) multiply_small<Rows>(x, w, windows, run_windows(matrix), sums);
  } else {
    if constexpr (Rows <= kByteTileRows) multiply_bytes<Rows>(x, w, windows, sums);
  }
}

/// sums (rows, 16 of 32) of floats = or += products (rows, 16 of 32) of one scale group * its scales.
inline void add_group(const PackedMatrix& matrix, const QuantizedRows& x, int64_t tile, int64_t panel, int64_t group,
                      const int32_t* products, float* sums) {
  const bool dense = !gathers(matrix), pointed = matrix.spec().has_zero_points();
  const int32_t first = first_level(matrix);
  const __m128i step_shift = _mm_cvtsi32_si128(level_step(matrix) - 1);
  const int32_t* inputs = x.sums(tile) + group * x.height();
  for (int64_t channel = 0; channel < PackedMatrix::kChannels; channel += Vector::kLanes) {
    const Vector scale = Vector::load(matrix.scales(panel, group) + channel);
    const Vector zero_point = pointed ? Vector::load(matrix.zero_points(panel, group) + channel) : Vector::zero();
    const __m256i offsets = dense ? _mm256_setzero_si256() : load(matrix.offsets(panel, group) + channel);
    for (int64_t r = 0; r < x.height(); ++r) {
      const int64_t at = r * kPairChannels + channel;
      const __m256i added = dense ? _mm256_set1_epi32(first * inputs[r]) : _mm256_sub_epi32(_mm256_setzero_si256(), offsets);
      const __m256i products_of_levels = dense ? _mm256_sll_epi32(load(products + at), step_shift) : load(products + at);
      Vector whole{_mm256_cvtepi32_ps(_mm256_add_epi32(products_of_levels, added))};
      if (pointed) whole = multiply_add(Vector::zero() - zero_point, Vector::all(static_cast<float>(inputs[r])), whole);
      multiply_add(whole, scale, group == 0 ? Vector::zero() : Vector::load(sums + at)).store(sums + at);
    }
  }
}

template <int64_t Rows = kTileRows>
void multiply_panel(const PackedMatrix& matrix, int64_t rows, const uint8_t* x, const uint8_t* w, int64_t windows, int32_t* sums) {
  if constexpr (Rows > 1) {
    if (rows < Rows) return multiply_panel<Rows - 1>(matrix, rows, x, w, windows, sums);
  }
  multiply_rows<Rows>(matrix, x, w, windows, sums);
}

/// sums (rows, 32) = x . two expanded panels.
inline void multiply_expanded(const PackedMatrix& matrix, const QuantizedRows& x, int64_t tile, int64_t first, int64_t second,
                              const uint8_t* w0, const uint8_t* w1, float* sums) {
  alignas(64) int32_t products[kTileRows * kPairChannels];
  const int64_t rows = x.height();
  for (int64_t group = 0; group < matrix.scale_groups(); ++group) {
    const int64_t window = group * matrix.windows_per_scale();
    const int64_t windows = std::min(matrix.windows_per_scale(), matrix.windows() - window);
    const uint8_t* inputs = x.tile(tile) + window * rows * 16;
    for (int64_t half = 0; half < (w1 == w0 ? 1 : 2); ++half) {
      const uint8_t* w = (half == 0 ? w0 : w1) + window * expanded_window_bytes(matrix);
      multiply_panel(matrix, rows, inputs, w, windows, products + half * 16);
      add_group(matrix, x, tile, half == 0 ? first : second, group, products + half * 16, sums + half * 16);
    }
  }
}

// Never called: no product has so few rows.
inline int64_t few_rows_tile(int64_t rows) { return rows; }
inline void multiply_few(const PackedMatrix&, const QuantizedRows&, int64_t, int64_t, int64_t, float*) {}

}  // namespace usmlite::cpu::USMLITE_ISA
