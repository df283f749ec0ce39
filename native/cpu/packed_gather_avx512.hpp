// Register tiles of gathered weights for AVX-512 VNNI. Codes are signed and activations unsigned (x + 128), because a bias of
// the codes would meet the activations that were chosen. kSumsKept: arrangement().sums_kept.
#pragma once
#include <algorithm>

#include "cpu/packed_operands_avx512.hpp"

namespace usmlite::cpu::USMLITE_ISA {

// What the sums of a gathered group begin with: the offsets, shifted like the products.
inline __m512i less_offsets(const TileOperands& o, int64_t panel, int64_t group) {
  const __m512i offsets = _mm512_sll_epi32(load(o.offsets[panel] + group * 16), _mm_cvtsi32_si128(o.shift));
  return _mm512_sub_epi32(_mm512_setzero_si512(), offsets);
}
inline __m512i less_kept_offsets(const TileOperands& o, int64_t panel, int64_t group) {
  return _mm512_sub_epi32(_mm512_setzero_si512(), load(o.kept_offsets[panel] + group * 16));
}
// What the sums of a group stand for; `kept`: the sum of the inputs whose weights are kept.
template <bool kSumsKept>
inline Vector gathered_whole(const TileOperands& o, __m512i sum, __m512i kept, int64_t panel, int64_t group) {
  sum = _mm512_sra_epi32(sum, _mm_cvtsi32_si128(o.shift));
  if constexpr (!kSumsKept) return {_mm512_cvtepi32_ps(sum)};
  if (o.doubled) sum = _mm512_slli_epi32(sum, 1);
  sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(_mm512_set1_epi32(o.first_level), kept));
  const Vector zero_points = o.pointed ? Vector::load(o.zero_points[panel] + group * 16) : Vector::zero();
  return multiply_add(Vector::zero() - zero_points, {_mm512_cvtepi32_ps(kept)}, {_mm512_cvtepi32_ps(sum)});
}

// sums (Rows, 32) = x . two expanded panels: for each channel vpshufb picks the activations that its codes multiply out of the
// 16 of a window.
template <int64_t Rows, int64_t Units, bool kSumsKept>
[[gnu::noinline]] void multiply_gathered(const TileOperands& o, float* sums) {
  const uint8_t *x = o.x, *w0 = o.w[0], *w1 = o.w[1];
  for (int64_t group = 0, begun = 0; begun < o.windows; ++group, begun += o.windows_per_group) {
    int64_t windows = std::min(o.windows_per_group, o.windows - begun);
    __m512i sum[Rows][2], kept[Rows][2];
#pragma GCC unroll 2
    for (int64_t half = 0; half < 2; ++half) {
      const __m512i begin = less_offsets(o, half, group);
      const __m512i kept_begin = kSumsKept ? less_kept_offsets(o, half, group) : begin;
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) sum[r][half] = begin, kept[r][half] = kept_begin;
    }
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
            const __m512i chosen = _mm512_shuffle_epi8(inputs, places[half][unit]);
            sum[r][half] = _mm512_dpbusd_epi32(sum[r][half], chosen, codes[half][unit]);
            finish_before_next(sum[r][half]);
            if constexpr (kSumsKept) {
              kept[r][half] = _mm512_dpbusd_epi32(kept[r][half], chosen, _mm512_set1_epi8(1));
              finish_before_next(kept[r][half]);
            }
          }
        }
      }
    }
#pragma GCC unroll 2
    for (int64_t half = 0; half < 2; ++half) {
      const Vector scale = Vector::load(o.scales[half] + group * 16);
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) {
        const Vector whole = gathered_whole<kSumsKept>(o, sum[r][half], kept[r][half], half, group);
        add_scaled(sums + r * kPairChannels + half * 16, whole, scale, group == 0);
      }
    }
  }
}

// sums (Rows, 16 of 32) = x . gathered blocks of one panel.
template <int64_t Rows, typename Decoder, bool kSumsKept>
[[gnu::noinline]] void multiply_gathered_blocks(const TileOperands& o, float* sums) {
  constexpr int64_t kParts = Rows <= 2 ? 4 : Rows <= 4 ? 2 : 1;  // more sums, which do not wait for each other
  // So few rows wait for memory: bytes fetched ahead, beyond the page where the processor's own prefetching ends.
  constexpr int64_t kAhead = 4096, kFewest = 4;
  const uint8_t *x = o.x, *block = o.w[0];
  for (int64_t group = 0, begun = 0; begun < o.windows; ++group, begun += o.windows_per_group) {
    int64_t windows = std::min(o.windows_per_group, o.windows - begun);
    __m512i sum[Rows][kParts], kept[Rows];
    const __m512i begin = less_offsets(o, 0, group), kept_begin = kSumsKept ? less_kept_offsets(o, 0, group) : begin;
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) {
      sum[r][0] = begin, kept[r] = kept_begin;
#pragma GCC unroll 4
      for (int64_t part = 1; part < kParts; ++part) sum[r][part] = _mm512_setzero_si512();
    }
    for (; windows > 0; windows -= Decoder::kWindows, x += Decoder::kWindows * Rows * 16, block += Decoder::kBytes) {
      if constexpr (Rows <= kFewest) {
#pragma GCC unroll 8
        for (int64_t line = 0; line < Decoder::kBytes; line += 64) _mm_prefetch(reinterpret_cast<const char*>(block + kAhead + line), _MM_HINT_T0);
      }
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
            const __m512i chosen = _mm512_shuffle_epi8(inputs, places[unit]);
            total = _mm512_dpbusd_epi32(total, chosen, codes[unit]);
            finish_before_next(total);
            if constexpr (kSumsKept) {
              kept[r] = _mm512_dpbusd_epi32(kept[r], chosen, _mm512_set1_epi8(1));
              finish_before_next(kept[r]);
            }
          }
        }
      }
    }
    const Vector scale = Vector::load(o.scales[0] + group * 16);
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (int64_t part = 1; part < kParts; ++part) sum[r][0] = _mm512_add_epi32(sum[r][0], sum[r][part]);
      add_scaled(sums + r * kPairChannels, gathered_whole<kSumsKept>(o, sum[r][0], kept[r], 0, group), scale, group == 0);
    }
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
