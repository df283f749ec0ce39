// Codes of packed weights into bytes that vpdpbusd multiplies, in AVX-512 registers.
#pragma once
#include <immintrin.h>

#include <array>

#include "codec/packed_matrix.hpp"

namespace usmlite::cpu::USMLITE_ISA {

using codec::PackedMatrix;
using codec::PackedOrder;

/// Whether the activations that gathered codes multiply are picked out.
inline bool gathers(const PackedMatrix& matrix) { return codec::is_gather(matrix.order()); }
/// How far the levels of gathered codes are shifted to the left while they are multiplied.
inline int32_t gather_shift(const PackedMatrix& matrix) {
  const bool nibbles = matrix.order() == PackedOrder::kGather4 && matrix.spec().format != codec::NumberFormat::kNormalFloat4;
  return nibbles ? matrix.nibble_shift() : 0;
}
/// Dense: level = level_step * byte + first_level.
inline int32_t level_step(const PackedMatrix& matrix) { return matrix.level_step(); }
inline int32_t first_level(const PackedMatrix& matrix) { return matrix.first_level(); }
inline bool expands_signed(const PackedMatrix&) { return false; }

inline __m512i load(const void* from) { return _mm512_loadu_si512(from); }
inline void store(void* to, __m512i value) { _mm512_storeu_si512(to, value); }

// Decoders: one block of codes into units of 64 codes each. `masked` leaves the codes of unit i where they are in their
// bytes, kShifts[i] bits too high: with a sum for each unit, shifting can wait until all products are added.
struct Dense1 {
  static constexpr int64_t kBytes = 64, kWindows = 2, kUnits = 8;
  static constexpr std::array<int, kUnits> kShifts = {0, 1, 2, 3, 4, 5, 6, 7};
  static void masked(const uint8_t* block, __m512i* units) {
    const __m512i bytes = load(block);
#pragma GCC unroll 8
    for (int64_t unit = 0; unit < 8; ++unit) units[unit] = _mm512_and_si512(bytes, _mm512_set1_epi8(static_cast<char>(1 << unit)));
  }
  static void decode(const uint8_t* block, __m512i* units) {
    const __m512i bytes = load(block);
#pragma GCC unroll 8
    for (int64_t unit = 0; unit < 8; ++unit) units[unit] = field(bytes, static_cast<int>(unit), 1);
  }
  static __m512i field(__m512i bytes, int shift, char mask) {
    return _mm512_and_si512(shift ? _mm512_srli_epi16(bytes, static_cast<unsigned>(shift)) : bytes, _mm512_set1_epi8(mask));
  }
};
struct Dense2 {
  static constexpr int64_t kBytes = 64, kWindows = 1, kUnits = 4;
  static constexpr std::array<int, kUnits> kShifts = {0, 2, 4, 6};
  static void masked(const uint8_t* block, __m512i* units) {
    const __m512i bytes = load(block);
#pragma GCC unroll 4
    for (int64_t unit = 0; unit < 4; ++unit) units[unit] = _mm512_and_si512(bytes, _mm512_set1_epi8(static_cast<char>(3 << 2 * unit)));
  }
  static void decode(const uint8_t* block, __m512i* units) {
    const __m512i bytes = load(block);
#pragma GCC unroll 4
    for (int64_t unit = 0; unit < 4; ++unit) units[unit] = Dense1::field(bytes, static_cast<int>(2 * unit), 3);
  }
};
struct Dense4 {
  static constexpr int64_t kBytes = 128, kWindows = 1, kUnits = 4;
  static constexpr std::array<int, kUnits> kShifts = {0, 4, 0, 4};
  static void masked(const uint8_t* block, __m512i* units) {
#pragma GCC unroll 4
    for (int64_t unit = 0; unit < 4; ++unit) {
      units[unit] = _mm512_and_si512(load(block + unit / 2 * 64), _mm512_set1_epi8(static_cast<char>(unit % 2 ? 0xF0 : 15)));
    }
  }
  static void decode(const uint8_t* block, __m512i* units) {
#pragma GCC unroll 4
    for (int64_t unit = 0; unit < 4; ++unit) units[unit] = Dense1::field(load(block + unit / 2 * 64), static_cast<int>(unit % 2 * 4), 15);
  }
};
inline __m512i normal_float4_levels() {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codec::kNormalFloat4Levels.data())));
}
/// nf4: level + 127.
struct Dense4Lookup : Dense4 {
  static constexpr std::array<int, kUnits> kShifts = {};
  static void decode(const uint8_t* block, __m512i* units) {
    Dense4::decode(block, units);
    const __m512i levels = _mm512_add_epi8(normal_float4_levels(), _mm512_set1_epi8(127));
#pragma GCC unroll 4
    for (int64_t unit = 0; unit < 4; ++unit) units[unit] = _mm512_shuffle_epi8(levels, units[unit]);
  }
  static void masked(const uint8_t* block, __m512i* units) { decode(block, units); }
};
struct Dense8 {
  static constexpr int64_t kBytes = 256, kWindows = 1, kUnits = 4;
  static constexpr std::array<int, kUnits> kShifts = {};
  static void decode(const uint8_t* block, __m512i* units) {
#pragma GCC unroll 4
    for (int64_t unit = 0; unit < 4; ++unit) units[unit] = load(block + unit * 64);
  }
  static void masked(const uint8_t* block, __m512i* units) { decode(block, units); }
};

/// The inputs of a window that the codes of a unit multiply: two bits of each of `bytes` from bit 2 * unit on, and the
/// beginning of the four inputs that they choose among.
template <int64_t Units, int Unit>
inline __m512i places_of(__m512i bytes) {
  constexpr int32_t kBegins = Units == 1 ? 0x0C080400 : Unit % 2 == 0 ? 0x04040000 : 0x0C0C0808;
  const __m512i shifted = Unit == 0 ? bytes : _mm512_srli_epi16(bytes, 2 * Unit);
  return _mm512_ternarylogic_epi32(shifted, _mm512_set1_epi8(3), _mm512_set1_epi32(kBegins), 0xEA);  // (a & b) | c
}
template <int64_t Units>
inline void all_places(const uint8_t* from, __m512i* places) {
  const __m512i bytes = load(from);
  places[0] = places_of<Units, 0>(bytes);
  places[1] = places_of<Units, 1>(bytes);
  places[2] = places_of<Units, 2>(bytes);
  places[3] = places_of<Units, 3>(bytes);
}
/// Nibbles as 16 * code + rest, which is a level times a power of two.
template <int64_t UnitsPerWindow, int Rest>
struct Gather4 {
  static constexpr int64_t kBytes = 192, kUnitsPerWindow = UnitsPerWindow, kWindows = 4 / UnitsPerWindow;
  static void decode(const uint8_t* block, __m512i* codes, __m512i* places) {
    const __m512i mask = _mm512_set1_epi8(-16), rest = _mm512_set1_epi8(Rest);
#pragma GCC unroll 2
    for (int64_t half = 0; half < 2; ++half) {
      const __m512i bytes = load(block + half * 64);
      codes[2 * half] = _mm512_ternarylogic_epi32(_mm512_slli_epi16(bytes, 4), mask, rest, 0xEA);
      codes[2 * half + 1] = _mm512_ternarylogic_epi32(bytes, mask, rest, 0xEA);
    }
    all_places<UnitsPerWindow>(block + 128, places);
  }
};
template <int64_t UnitsPerWindow>
struct Gather4Lookup : Gather4<UnitsPerWindow, 0> {
  static void decode(const uint8_t* block, __m512i* codes, __m512i* places) {
    Dense4::decode(block, codes);
#pragma GCC unroll 4
    for (int64_t unit = 0; unit < 4; ++unit) codes[unit] = _mm512_shuffle_epi8(normal_float4_levels(), codes[unit]);
    all_places<UnitsPerWindow>(block + 128, places);
  }
};
template <int64_t UnitsPerWindow>
struct Gather8 {
  static constexpr int64_t kBytes = 320, kUnitsPerWindow = UnitsPerWindow, kWindows = 4 / UnitsPerWindow;
  static void decode(const uint8_t* block, __m512i* codes, __m512i* places) {
    Dense8::decode(block, codes);
    all_places<UnitsPerWindow>(block + 256, places);
  }
};

/// Calls use(decoder) with the decoder of the matrix.
template <typename Use>
inline void with_dense_decoder(const PackedMatrix& matrix, Use&& use) {
  switch (matrix.order()) {
    case PackedOrder::kDense1: return use(Dense1{});
    case PackedOrder::kDense2: return use(Dense2{});
    case PackedOrder::kDense8: return use(Dense8{});
    default: break;
  }
  if (matrix.spec().format == codec::NumberFormat::kNormalFloat4) return use(Dense4Lookup{});
  use(Dense4{});
}
template <int64_t UnitsPerWindow, typename Use>
inline void with_gather_decoder(const PackedMatrix& matrix, Use&& use) {
  if (matrix.order() == PackedOrder::kGather8) return use(Gather8<UnitsPerWindow>{});
  if (matrix.spec().format == codec::NumberFormat::kNormalFloat4) return use(Gather4Lookup<UnitsPerWindow>{});
  if (matrix.nibble_rest()) return use(Gather4<UnitsPerWindow, 8>{});
  use(Gather4<UnitsPerWindow, 0>{});
}
template <typename Use>
inline void with_gather_decoder(const PackedMatrix& matrix, Use&& use) {
  if (matrix.arrangement().units == 1) return with_gather_decoder<1>(matrix, use);
  with_gather_decoder<2>(matrix, use);
}

/// Bytes of one window of a panel, expanded: units of 64 bytes, gathered ones with their places behind.
inline int64_t expanded_window_bytes(const PackedMatrix& matrix) {
  return matrix.arrangement().units * (gathers(matrix) ? 128 : 64);
}
/// The bytes that tiles multiply by; `to` has room for a panel, which kDense8 does not need.
inline const uint8_t* expand_panel(const PackedMatrix& matrix, int64_t panel, uint8_t* to) {
  const uint8_t* block = matrix.codes(panel, 0);
  if (matrix.order() == PackedOrder::kDense8) return block;
  uint8_t* out = to;
  if (gathers(matrix)) {
    with_gather_decoder(matrix, [&](auto decoder) {
      for (int64_t window = 0; window < matrix.windows(); window += decoder.kWindows, block += decoder.kBytes) {
        __m512i codes[4], places[4];
        decoder.decode(block, codes, places);
        for (int64_t unit = 0; unit < 4; ++unit, out += 128) {
          store(out, codes[unit]);
          store(out + 64, places[unit]);
        }
      }
    });
  } else {
    with_dense_decoder(matrix, [&](auto decoder) {
      for (int64_t window = 0; window < matrix.windows(); window += decoder.kWindows, block += decoder.kBytes) {
        __m512i units[decoder.kUnits];
        decoder.decode(block, units);
        for (int64_t unit = 0; unit < decoder.kUnits; ++unit, out += 64) store(out, units[unit]);
      }
    });
  }
  return to;
}

}  // namespace usmlite::cpu::USMLITE_ISA
