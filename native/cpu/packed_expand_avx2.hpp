// Codes of packed weights into bytes that AVX2 multiplies, and which tiles they are multiplied in.
#pragma once
#include <immintrin.h>

#include <cstring>

#include "codec/packed_matrix.hpp"

namespace usmlite::cpu::USMLITE_ISA {

using codec::PackedMatrix;
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
/// level = level_step * code + first_level, for codes as they are expanded.
inline int32_t level_step(const PackedMatrix& matrix) {
  return expands_levels(matrix) && !matrix.arrangement().sums_kept ? 1 : matrix.level_step();
}
inline int32_t first_level(const PackedMatrix& matrix) {
  if (matrix.arrangement().sums_kept) return matrix.first_level();
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

/// Whether behind all spread codes of a panel follows, in the same order, a one for every weight that is kept.
inline bool has_ones(const PackedMatrix& matrix) { return !gathers(matrix) && matrix.arrangement().sums_kept; }

// One block of codes with places as dense units. Unused places hold zeros, or lie beyond the row.
inline void spread_block(const PackedMatrix& matrix, const uint8_t* gathered, uint8_t* to, uint8_t* ones) {
  const int64_t units = matrix.arrangement().units;
  const size_t bytes = static_cast<size_t>(matrix.arrangement().block_windows() * 256);
  std::memset(to, 0, bytes);
  if (ones) std::memset(ones, 0, bytes);
  for (int64_t unit = 0; unit < 4; ++unit, gathered += 128) {
    for (int64_t i = 0; i < 64; ++i) {
      const int64_t place = gathered[64 + i], at = unit / units * 256 + place / 4 * 64 + i / 4 * 4 + place % 4;
      if (gathered[i]) to[at] = gathered[i];
      if (ones) ones[at] = 1;
    }
  }
}

inline int64_t expanded_window_bytes(const PackedMatrix& matrix) {
  return gathers(matrix) ? matrix.arrangement().units * 128 : has_ones(matrix) ? 512 : 256;
}
/// The bytes that tiles multiply by; `to` has room for a panel.
inline const uint8_t* expand_panel(const PackedMatrix& matrix, int64_t panel, uint8_t* to) {
  const __m256i table = nibble_table(matrix);
  const int64_t step = matrix.arrangement().block_windows();
  const int64_t window_bytes = gathers(matrix) ? expanded_window_bytes(matrix) : 256;
  uint8_t* out = to;
  for (int64_t window = 0; window < matrix.windows(); window += step, out += step * window_bytes) {
    const uint8_t* block = matrix.codes(panel, window);
    if (codec::is_dense(matrix.order())) {
      expand_dense_block(matrix, block, table, out);
    } else if (gathers(matrix)) {
      expand_gathered_block(matrix, block, table, out);
    } else {
      uint8_t gathered[4 * 128];
      expand_gathered_block(matrix, block, table, gathered);
      spread_block(matrix, gathered, out, has_ones(matrix) ? out + matrix.windows() * 256 : nullptr);
    }
  }
  return to;
}

}  // namespace usmlite::cpu::USMLITE_ISA
