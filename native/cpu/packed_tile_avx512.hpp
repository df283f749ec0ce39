// Products of a tile of rows with packed weights for AVX-512 VNNI: which register tile takes them.
#pragma once

#include "cpu/packed_dense_avx512.hpp"
#include "cpu/packed_gather_avx512.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// Rows of a register tile: with two panels 24 accumulators; the rest of 32 for weights and activations. Two gathered units
/// of two panels take eight, and sums of what is kept as many accumulators again.
inline constexpr int64_t kTileRows = 12, kGatherTileRows = 10, kTwofoldTileRows = 5;
inline int64_t tile_rows(const PackedMatrix& matrix) {
  if (matrix.arrangement().sums_kept) return kTwofoldTileRows;
  return gathers(matrix) && matrix.arrangement().units == 2 ? kGatherTileRows : kTileRows;
}
/// So few rows are multiplied while codes are decoded, straight from the blocks: nothing is expanded into memory.
inline constexpr int64_t kFewRows = 16;

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
          const TileOperands o = panel_operands(matrix, x, 0, panel, panel);
          if (matrix.arrangement().sums_kept) multiply_gathered_blocks<kRows, decltype(decoder), true>(o, sums + half * 16);
          else multiply_gathered_blocks<kRows, decltype(decoder), false>(o, sums + half * 16);
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
  if (!gathers(matrix)) return with_levels(matrix, [&](auto levels) { multiply_dense<Rows, decltype(levels)>(o, sums); });
  const bool one = matrix.arrangement().units == 1;
  if (!matrix.arrangement().sums_kept) return one ? multiply_gathered<Rows, 1, false>(o, sums) : multiply_gathered<Rows, 2, false>(o, sums);
  if constexpr (Rows <= kTwofoldTileRows) return one ? multiply_gathered<Rows, 1, true>(o, sums) : multiply_gathered<Rows, 2, true>(o, sums);
}
inline void multiply_expanded(const PackedMatrix& matrix, const QuantizedRows& x, int64_t tile, int64_t first, int64_t second,
                              const uint8_t* w0, const uint8_t* w1, float* sums) {
  TileOperands o = panel_operands(matrix, x, tile, first, second);
  o.w[0] = w0;
  o.w[1] = w1;
  multiply_tile(matrix, x.height(), o, sums);
}

}  // namespace usmlite::cpu::USMLITE_ISA
