// Register tiles of dense weights for AVX-512 VNNI: vpdpbusd sums four products of unsigned and signed bytes in 32 bits, so
// nothing can saturate. Weights are unsigned, as they are stored, and activations signed.
#pragma once
#include <algorithm>

#include "cpu/packed_operands_avx512.hpp"

namespace usmlite::cpu::USMLITE_ISA {

// sums (Rows, 32) = x . two expanded panels. Out of line, so that the sums have all registers.
template <int64_t Rows, typename Levels>
[[gnu::noinline]] void multiply_dense(const TileOperands& o, float* sums) {
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

// Straight from blocks. Few rows get a sum for each unit: fewer sums could not hide vpdpbusd's latency, and codes need not
// be shifted one by one. Half of the registers hold sums.
template <int64_t Rows, typename Decoder>
inline constexpr bool kSumPerUnit = Rows * Decoder::kUnits <= 16;

// Of two bits and one row, every other block has sums of its own. With eight, to each of which vpdpbusd can add every fourth
// cycle while two start in each, what is late once would stay late. Wider codes wait for memory.
template <int64_t Rows, int64_t Panels, typename Decoder>
inline constexpr int64_t kSumSets = Rows * Panels * Decoder::kUnits <= 8 && Decoder::kBytes == 64 ? 2 : 1;

// sums (Rows, Panels * 16 of 32) = x . blocks of one panel or two, which share the loads of activations.
template <int64_t Rows, int64_t Panels, typename Decoder, typename Levels>
[[gnu::noinline]] void multiply_dense_blocks(const TileOperands& o, float* sums) {
  constexpr int64_t kUnits = Decoder::kUnits, kParts = kSumPerUnit<Rows, Decoder> ? kUnits : 1;
  constexpr int64_t kSets = kSumSets<Rows, Panels, Decoder>;
  const uint8_t* x = o.x;
  const uint8_t* block[2] = {o.w[0], o.w[1]};
  for (int64_t group = 0, begun = 0; begun < o.windows; ++group, begun += o.windows_per_group) {
    int64_t blocks = std::min(o.windows_per_group, o.windows - begun) / Decoder::kWindows;
    const int32_t* inputs = o.input_sums + group * Rows;
    __m512i sum[Panels][Rows][kSets * kParts];
#pragma GCC unroll 2
    for (int64_t panel = 0; panel < Panels; ++panel) {
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
        for (int64_t part = 0; part < kSets * kParts; ++part) sum[panel][r][part] = _mm512_setzero_si512();
      }
    }
    const auto multiply_block = [&](int64_t set) __attribute__((always_inline)) {
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
            __m512i& total = sum[panel][r][set * kParts + unit % kParts];
            total = _mm512_dpbusd_epi32(total, units[panel][unit], four);
            finish_before_next(total);
          }
        }
      }
      x += Decoder::kWindows * Rows * 16;
    };
    for (; blocks >= kSets; blocks -= kSets) {
#pragma GCC unroll 2
      for (int64_t set = 0; set < kSets; ++set) multiply_block(set);
    }
    if (kSets > 1 && blocks > 0) multiply_block(0);
#pragma GCC unroll 2
    for (int64_t panel = 0; panel < Panels; ++panel) {
      const Vector scale = Vector::load(o.scales[panel] + group * 16);
#pragma GCC unroll 16
      for (int64_t r = 0; r < Rows; ++r) {
        __m512i total = _mm512_set1_epi32(Levels::begin(o, inputs[r]));
#pragma GCC unroll 16
        for (int64_t part = 0; part < kSets * kParts; ++part) {
          const int shift = kParts > 1 ? Decoder::kShifts[static_cast<size_t>(part % kParts)] : 0;
          total = _mm512_add_epi32(total, _mm512_srai_epi32(sum[panel][r][part], static_cast<unsigned>(shift)));
        }
        const Vector whole = Levels::end(o, inputs[r], total, o.zero_points[panel] + group * 16);
        add_scaled(sums + r * kPairChannels + panel * 16, whole, scale, group == 0);
      }
    }
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
