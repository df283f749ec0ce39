// Register tiles of whole-number products for AVX-512 VNNI: vpdpbusd sums four products of unsigned and signed bytes in 32
// bits, so nothing can saturate. Dense weights are unsigned, as they are stored, and activations signed; gathered weights
// are signed and activations unsigned (x + 128), because a bias would meet the activations that were chosen.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cpu/packed_decode_avx512.hpp"
#include "cpu/quantized_rows.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// Rows of a register tile: with two panels 24 accumulators; the rest of 32 for weights and activations. Two gathered units
/// of two panels take eight.
inline constexpr int64_t kTileRows = 12;
inline int64_t tile_rows(const PackedMatrix& matrix) { return gathers(matrix) && matrix.arrangement().units == 2 ? 10 : kTileRows; }
/// So few rows are multiplied while codes are decoded, straight from the blocks: nothing is expanded into memory.
inline constexpr int64_t kFewRows = 16;

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
  int64_t windows, windows_per_group;
  int32_t first_level, shift;   // shift: of gathered sums
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

// sums (Rows, 32) = x . two expanded panels. Out of line, so that the sums have all registers.
template <int64_t Rows, typename Levels>
[[gnu::noinline]] void multiply_dense(const TileOperands o, float* sums) {
  const uint8_t *x = o.x, *w0 = o.w[0], *w1 = o.w[1];
  for (int64_t group = 0, begun = 0; begun < o.windows; ++group, begun += o.windows_per_group) {
    int64_t windows = std::min(o.windows_per_group, o.windows - begun);
    const int32_t* inputs = o.input_sums + group * Rows;
    __m512i sum[Rows][2];
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = _mm512_set1_epi32(Levels::begin(o, inputs[r]));
    for (; windows > 0; --windows, x += Rows * 16, w0 += 256, w1 += 256) {
#pragma GCC unroll 4
      for (int64_t unit = 0; unit < 4; ++unit) {
        const __m512i first = load(w0 + unit * 64), second = load(w1 + unit * 64);
#pragma GCC unroll 16
        for (int64_t r = 0; r < Rows; ++r) {
          const __m512i four = four_inputs(x + r * 16 + unit * 4);
          sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], first, four);
          sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], second, four);
          finish_before_next(sum[r][0]);
          finish_before_next(sum[r][1]);
        }
      }
    }
#pragma GCC unroll 2
    for (int64_t half = 0; half < 2; ++half) {
      const Vector scale = Vector::load(o.scales[half] + group * 16);
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) {
        const Vector whole = Levels::end(o, inputs[r], sum[r][half], o.zero_points[half] + group * 16);
        add_scaled(sums + r * kPairChannels + half * 16, whole, scale, group == 0);
      }
    }
  }
}

// What the sums of a gathered group begin with: the offsets, shifted like the products.
inline __m512i less_offsets(const TileOperands& o, int64_t panel, int64_t group) {
  const __m512i offsets = _mm512_sll_epi32(load(o.offsets[panel] + group * 16), _mm_cvtsi32_si128(o.shift));
  return _mm512_sub_epi32(_mm512_setzero_si512(), offsets);
}
inline Vector shifted_sums(const TileOperands& o, __m512i sum) {
  return {_mm512_cvtepi32_ps(_mm512_sra_epi32(sum, _mm_cvtsi32_si128(o.shift)))};
}

// The same for gathered codes: for each channel vpshufb picks the activations that its codes multiply out of the 16 of a
// window.
template <int64_t Rows, int64_t Units>
[[gnu::noinline]] void multiply_gathered(const TileOperands o, float* sums) {
  const uint8_t *x = o.x, *w0 = o.w[0], *w1 = o.w[1];
  for (int64_t group = 0, begun = 0; begun < o.windows; ++group, begun += o.windows_per_group) {
    int64_t windows = std::min(o.windows_per_group, o.windows - begun);
    const __m512i begin[2] = {less_offsets(o, 0, group), less_offsets(o, 1, group)};
    __m512i sum[Rows][2];
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) sum[r][0] = begin[0], sum[r][1] = begin[1];
    for (; windows > 0; --windows, x += Rows * 16) {
      __m512i codes[2][Units], places[2][Units];
#pragma GCC unroll 2
      for (int64_t unit = 0; unit < Units; ++unit, w0 += 128, w1 += 128) {
        codes[0][unit] = load(w0), places[0][unit] = load(w0 + 64);
        codes[1][unit] = load(w1), places[1][unit] = load(w1 + 64);
      }
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) {
        const __m512i inputs = sixteen_inputs(x + r * 16);
#pragma GCC unroll 2
        for (int64_t unit = 0; unit < Units; ++unit) {
#pragma GCC unroll 2
          for (int64_t half = 0; half < 2; ++half) {
            sum[r][half] = _mm512_dpbusd_epi32(sum[r][half], _mm512_shuffle_epi8(inputs, places[half][unit]), codes[half][unit]);
            finish_before_next(sum[r][half]);
          }
        }
      }
    }
#pragma GCC unroll 2
    for (int64_t half = 0; half < 2; ++half) {
      const Vector scale = Vector::load(o.scales[half] + group * 16);
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) {
        add_scaled(sums + r * kPairChannels + half * 16, shifted_sums(o, sum[r][half]), scale, group == 0);
      }
    }
  }
}

// Straight from blocks. Few rows get a sum for each unit: fewer sums could not hide vpdpbusd's latency, and codes need not
// be shifted one by one. Half of the registers hold sums.
template <int64_t Rows, typename Decoder>
inline constexpr bool kSumPerUnit = Rows * Decoder::kUnits <= 16;

// sums (Rows, Panels * 16 of 32) = x . blocks of one panel or two, which share the loads of activations.
template <int64_t Rows, int64_t Panels, typename Decoder, typename Levels>
[[gnu::noinline]] void multiply_dense_blocks(const TileOperands o, float* sums) {
  constexpr int64_t kUnits = Decoder::kUnits, kParts = kSumPerUnit<Rows, Decoder> ? kUnits : 1;
  const uint8_t* x = o.x;
  const uint8_t* block[2] = {o.w[0], o.w[1]};
  for (int64_t group = 0, begun = 0; begun < o.windows; ++group, begun += o.windows_per_group) {
    int64_t windows = std::min(o.windows_per_group, o.windows - begun);
    const int32_t* inputs = o.input_sums + group * Rows;
    __m512i sum[Panels][Rows][kParts];
#pragma GCC unroll 2
    for (int64_t panel = 0; panel < Panels; ++panel) {
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
        for (int64_t part = 0; part < kParts; ++part) sum[panel][r][part] = _mm512_setzero_si512();
      }
    }
    for (; windows > 0; windows -= Decoder::kWindows, x += Decoder::kWindows * Rows * 16) {
      __m512i units[Panels][kUnits];
#pragma GCC unroll 2
      for (int64_t panel = 0; panel < Panels; ++panel) {
        if constexpr (kParts > 1) Decoder::masked(block[panel], units[panel]);
        else Decoder::decode(block[panel], units[panel]);
        block[panel] += Decoder::kBytes;
      }
#pragma GCC unroll 8
      for (int64_t unit = 0; unit < kUnits; ++unit) {
#pragma GCC unroll 16
        for (int64_t r = 0; r < Rows; ++r) {
          const __m512i four = four_inputs(x + (unit / 4 * Rows + r) * 16 + unit % 4 * 4);
#pragma GCC unroll 2
          for (int64_t panel = 0; panel < Panels; ++panel) {
            __m512i& total = sum[panel][r][unit % kParts];
            total = _mm512_dpbusd_epi32(total, units[panel][unit], four);
            finish_before_next(total);
          }
        }
      }
    }
#pragma GCC unroll 2
    for (int64_t panel = 0; panel < Panels; ++panel) {
      const Vector scale = Vector::load(o.scales[panel] + group * 16);
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) {
        __m512i total = _mm512_set1_epi32(Levels::begin(o, inputs[r]));
#pragma GCC unroll 8
        for (int64_t part = 0; part < kParts; ++part) {
          const int shift = kParts > 1 ? Decoder::kShifts[static_cast<size_t>(part)] : 0;
          total = _mm512_add_epi32(total, _mm512_srai_epi32(sum[panel][r][part], static_cast<unsigned>(shift)));
        }
        const Vector whole = Levels::end(o, inputs[r], total, o.zero_points[panel] + group * 16);
        add_scaled(sums + r * kPairChannels + panel * 16, whole, scale, group == 0);
      }
    }
  }
}

// sums (Rows, 16 of 32) = x . gathered blocks of one panel.
template <int64_t Rows, typename Decoder>
[[gnu::noinline]] void multiply_gathered_blocks(const TileOperands o, float* sums) {
  constexpr int64_t kParts = Rows <= 2 ? 4 : Rows <= 4 ? 2 : 1;
  const uint8_t *x = o.x, *block = o.w[0];
  for (int64_t group = 0, begun = 0; begun < o.windows; ++group, begun += o.windows_per_group) {
    int64_t windows = std::min(o.windows_per_group, o.windows - begun);
    __m512i sum[Rows][kParts];
    const __m512i begin = less_offsets(o, 0, group);
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) {
      sum[r][0] = begin;
#pragma GCC unroll 4
      for (int64_t part = 1; part < kParts; ++part) sum[r][part] = _mm512_setzero_si512();
    }
    for (; windows > 0; windows -= Decoder::kWindows, x += Decoder::kWindows * Rows * 16, block += Decoder::kBytes) {
      __m512i codes[4], places[4];
      Decoder::decode(block, codes, places);
#pragma GCC unroll 4
      for (int64_t window = 0; window < Decoder::kWindows; ++window) {
#pragma GCC unroll 16
        for (int64_t r = 0; r < Rows; ++r) {
          const __m512i inputs = sixteen_inputs(x + (window * Rows + r) * 16);
#pragma GCC unroll 2
          for (int64_t i = 0; i < Decoder::kUnitsPerWindow; ++i) {
            const int64_t unit = window * Decoder::kUnitsPerWindow + i;
            __m512i& total = sum[r][unit % kParts];
            total = _mm512_dpbusd_epi32(total, _mm512_shuffle_epi8(inputs, places[unit]), codes[unit]);
            finish_before_next(total);
          }
        }
      }
    }
    const Vector scale = Vector::load(o.scales[0] + group * 16);
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (int64_t part = 1; part < kParts; ++part) sum[r][0] = _mm512_add_epi32(sum[r][0], sum[r][part]);
      add_scaled(sums + r * kPairChannels, shifted_sums(o, sum[r][0]), scale, group == 0);
    }
  }
}

/// Rows of the tile that `rows` (1..kFewRows) rows are multiplied as.
inline int64_t few_rows_tile(int64_t rows) {
  for (const int64_t height : {1, 2, 4, 8, 12}) {
    if (rows <= height) return height;
  }
  return kFewRows;
}
template <typename Use>
inline void with_few_rows(int64_t rows, Use&& use) {
  switch (rows) {
    case 1: return use(std::integral_constant<int64_t, 1>{});
    case 2: return use(std::integral_constant<int64_t, 2>{});
    case 4: return use(std::integral_constant<int64_t, 4>{});
    case 8: return use(std::integral_constant<int64_t, 8>{});
    case 12: return use(std::integral_constant<int64_t, 12>{});
    default: return use(std::integral_constant<int64_t, 16>{});
  }
}

inline TileOperands panel_operands(const PackedMatrix& matrix, const QuantizedRows& x, int64_t tile, int64_t first, int64_t second) {
  const bool gathered = gathers(matrix), pointed = matrix.spec().has_zero_points();
  const float *first_scales = matrix.scales(first, 0), *second_scales = matrix.scales(second, 0);
  return {x.tile(tile),
          x.sums(tile),
          {matrix.codes(first, 0), matrix.codes(second, 0)},
          {first_scales, second_scales},
          {pointed ? matrix.zero_points(first, 0) : first_scales, pointed ? matrix.zero_points(second, 0) : second_scales},
          {gathered ? matrix.offsets(first, 0) : nullptr, gathered ? matrix.offsets(second, 0) : nullptr},
          matrix.windows(),
          matrix.windows_per_scale(),
          matrix.first_level(),
          gathered ? gather_shift(matrix) : 0};
}

/// sums (rows, 32) = x . two panels, straight from their blocks, for rows = few_rows_tile(..).
inline void multiply_few(const PackedMatrix& matrix, const QuantizedRows& x, int64_t rows, int64_t first, int64_t second, float* sums) {
  with_few_rows(rows, [&](auto height) {
    constexpr int64_t kRows = height.value, kPanels = kRows == 1 ? 2 : 1;
    const auto each_panel = [&](auto&& multiply) {
      for (int64_t half = 0; half < 2; half += kPanels) {
        const int64_t panel = half == 0 ? first : second;
        multiply(panel_operands(matrix, x, 0, panel, second), sums + half * 16);
      }
    };
    if (gathers(matrix)) {
      with_gather_decoder(matrix, [&](auto decoder) {
        for (int64_t half = 0; half < 2; ++half) {
          const int64_t panel = half == 0 ? first : second;
          multiply_gathered_blocks<kRows, decltype(decoder)>(panel_operands(matrix, x, 0, panel, panel), sums + half * 16);
        }
      });
      return;
    }
    with_dense_decoder(matrix, [&](auto decoder) {
      with_levels(matrix, [&](auto levels) {
        each_panel([](const TileOperands& o, float* to) {
          multiply_dense_blocks<kRows, kPanels, decltype(decoder), decltype(levels)>(o, to);
        });
      });
    });
  });
}

/// sums (rows, 32) = x . two expanded panels, for rows in 1..kTileRows.
template <int64_t Rows = kTileRows>
void multiply_tile(const PackedMatrix& matrix, int64_t rows, const TileOperands& o, float* sums) {
  if constexpr (Rows > 1) {
    if (rows < Rows) return multiply_tile<Rows - 1>(matrix, rows, o, sums);
  }
  if (!gathers(matrix)) with_levels(matrix, [&](auto levels) { multiply_dense<Rows, decltype(levels)>(o, sums); });
  else if (matrix.arrangement().units == 1) multiply_gathered<Rows, 1>(o, sums);
  else multiply_gathered<Rows, 2>(o, sums);
}
inline void multiply_expanded(const PackedMatrix& matrix, const QuantizedRows& x, int64_t tile, int64_t first, int64_t second,
                              const uint8_t* w0, const uint8_t* w1, float* sums) {
  TileOperands o = panel_operands(matrix, x, tile, first, second);
  o.w[0] = w0;
  o.w[1] = w1;
  multiply_tile(matrix, x.height(), o, sums);
}

}  // namespace usmlite::cpu::USMLITE_ISA
