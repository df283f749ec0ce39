// Tiles of whole-number products in the matrix registers of AMX: tdpb.. adds the products of 16 rows of 64 bytes of activations
// and 16 x 16 x 4 bytes of weights to 16 x 16 sums of 32 bits. An expanded panel is four units to a window, so 16 adjacent units
// are such a factor as they lie. Everything else, and up to kFewRows rows, is done in vector registers.
#pragma once
#include <algorithm>
#include <cstring>

#include "core/divide_up.hpp"
#include "cpu/packed_tile_avx512.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// One of the processor's palette 1: what ldtilecfg reads.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// The sums of a group of levels that are expanded as they are.
struct SpreadLevels {
  static int32_t begin(const TileOperands&, int32_t) { return 0; }
  static Vector end(const TileOperands&, int32_t, __m512i sum, const float*) { return {_mm512_cvtepi32_ps(sum)}; }
};

/// What each nibble of kGather4 stands for.
inline __m512i nibble_levels(const PackedMatrix& matrix) {
  if (matrix.spec().format == codec::NumberFormat::kNormalFloat4) return normal_float4_levels();
  alignas(16) int8_t levels[16];
  for (int nibble = 0; nibble < 16; ++nibble) {
    levels[nibble] = static_cast<int8_t>((static_cast<int8_t>(nibble << 4) + matrix.nibble_rest()) >> matrix.nibble_shift());
  }
  return _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(levels)));
}

/// Puts the gathered codes of a panel where their inputs are: signed levels, four dense units to a window.
template <int64_t UnitsPerWindow>
inline void spread_panel(const PackedMatrix& matrix, int64_t panel, uint8_t* to) {
  const bool nibbles = matrix.order() == PackedOrder::kGather4;
  const __m512i levels = nibble_levels(matrix);
  const __m512i begins = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
  constexpr int64_t kWindows = 4 / UnitsPerWindow, kPerGroup = UnitsPerWindow;  // codes of a channel for four inputs
  for (int64_t window = 0; window < matrix.windows(); window += kWindows) {
    const uint8_t* block = matrix.codes(panel, window);
    __m512i codes[4], places[4];
    if (nibbles) Dense4::decode(block, codes);
    else Dense8::decode(block, codes);
    for (__m512i& unit : codes) unit = nibbles ? _mm512_shuffle_epi8(levels, unit) : unit;
    all_places<UnitsPerWindow>(block + (nibbles ? 128 : 256), places);
    for (int64_t group = 0; group < kWindows * 4; ++group, to += 64) {
      const int64_t first = group * kPerGroup;  // code of the channel in this block
      const __m512i inputs = _mm512_set1_epi32(static_cast<int32_t>(0x03020100 + 0x04040404 * (group % 4)));
      __m512i dense = _mm512_setzero_si512();
      for (int64_t code = first; code < first + kPerGroup; ++code) {
        const __m512i from = _mm512_add_epi8(begins, _mm512_set1_epi8(static_cast<char>(code % 4)));
        const __mmask64 here = _mm512_cmpeq_epi8_mask(_mm512_shuffle_epi8(places[code / 4], from), inputs);
        dense = _mm512_or_si512(dense, _mm512_maskz_shuffle_epi8(here, codes[code / 4], from));  // unused codes are zero
      }
      store(to, dense);
    }
  }
}

/// Up to 32 rows by two panels, for multiply_many_rows.
class MatrixTiles {
 public:
  static constexpr int64_t kRows = 32;

  /// Whether a product is done by these tiles. Sums of what is kept would be another product.
  static bool take(const PackedMatrix& weight) { return !weight.arrangement().sums_kept; }
  /// Pieces of as many inputs as a register's row has bytes, or as share a scale.
  static RowLayout layout(const PackedMatrix& weight, int64_t m) {
    return {divide_up(m, divide_up(m, kRows)), piece_of(weight), false};
  }
  static int64_t panel_bytes(const PackedMatrix& weight) {
    return divide_up(weight.windows(), piece_of(weight)) * piece_of(weight) * kWindowBytes;
  }
  static const uint8_t* expand(const PackedMatrix& weight, int64_t panel, uint8_t* to) {
    if (gathers(weight)) {
      if (weight.arrangement().units == 1) spread_panel<1>(weight, panel, to);
      else spread_panel<2>(weight, panel, to);
      return to;
    }
    const uint8_t* expanded = expand_panel(weight, panel, to);
    if (expanded == to || weight.windows() % piece_of(weight) == 0) return expanded;
    std::memcpy(to, expanded, static_cast<size_t>(weight.windows() * kWindowBytes));  // the last piece reaches beyond it
    return to;
  }

  /// Takes the registers of this thread: 0..3 sums, 4 and 5 halves of the rows, 6 and 7 panels.
  explicit MatrixTiles(const QuantizedRows& x) : upper_rows_((x.height() + 1) / 2) {
    TileConfiguration configuration;
    const auto set = [&](int tile, int64_t rows, int64_t row_bytes) {
      configuration.rows[tile] = static_cast<uint8_t>(rows);
      configuration.row_bytes[tile] = static_cast<uint16_t>(row_bytes);
    };
    const int64_t lower_rows = x.height() - upper_rows_, piece_bytes = x.piece() * 16;
    set(0, upper_rows_, 64), set(1, upper_rows_, 64), set(2, lower_rows, 64), set(3, lower_rows, 64);
    set(4, upper_rows_, piece_bytes), set(5, lower_rows, piece_bytes);
    set(6, piece_bytes / 4, 64), set(7, piece_bytes / 4, 64);
    _tile_loadconfig(&configuration);
  }
  ~MatrixTiles() { _tile_release(); }
  MatrixTiles(const MatrixTiles&) = delete;
  MatrixTiles& operator=(const MatrixTiles&) = delete;

  /// sums (rows, 32) = x . two expanded panels.
  void multiply(const PackedMatrix& weight, const QuantizedRows& x, int64_t tile, int64_t first, int64_t second,
                const uint8_t* w0, const uint8_t* w1, float* sums) const {
    const TileOperands o = panel_operands(weight, x, tile, first, second);
    if (gathers(weight)) return multiply<SpreadLevels>(o, x, w0, w1, sums);
    with_levels(weight, [&](auto levels) { multiply<decltype(levels)>(o, x, w0, w1, sums); });
  }

 private:
  static constexpr int64_t kWindowBytes = 256;  // of an expanded panel
  static int64_t piece_of(const PackedMatrix& weight) { return weight.windows_per_scale() == 2 ? 2 : 4; }

  template <typename Levels>
  void multiply(const TileOperands& o, const QuantizedRows& x, const uint8_t* w0, const uint8_t* w1, float* sums) const {
    constexpr bool kSigned = std::is_same_v<Levels, SpreadLevels>;
    alignas(64) int32_t products[kRows * kPairChannels];
    const int64_t piece_bytes = x.piece() * 16, lower = upper_rows_ * piece_bytes;
    const uint8_t* a = o.x;
    for (int64_t group = 0, done = 0; done < o.windows; ++group, done += o.windows_per_group) {
      const int64_t windows = std::min(o.windows_per_group, o.windows - done);
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int64_t piece = divide_up(windows, x.piece()); piece > 0; --piece) {
        _tile_loadd(4, a, piece_bytes);
        _tile_loadd(5, a + lower, piece_bytes);
        _tile_loadd(6, w0, 64);
        _tile_loadd(7, w1, 64);
        if constexpr (kSigned) {
          _tile_dpbssd(0, 4, 6);
          _tile_dpbssd(1, 4, 7);
          _tile_dpbssd(2, 5, 6);
          _tile_dpbssd(3, 5, 7);
        } else {
          _tile_dpbsud(0, 4, 6);
          _tile_dpbsud(1, 4, 7);
          _tile_dpbsud(2, 5, 6);
          _tile_dpbsud(3, 5, 7);
        }
        a += x.height() * piece_bytes, w0 += x.piece() * kWindowBytes, w1 += x.piece() * kWindowBytes;
      }
      constexpr int64_t kStride = kPairChannels * sizeof(int32_t);
      _tile_stored(0, products, kStride);
      _tile_stored(1, products + 16, kStride);
      _tile_stored(2, products + upper_rows_ * kPairChannels, kStride);
      _tile_stored(3, products + upper_rows_ * kPairChannels + 16, kStride);
      add_group<Levels>(o, group, x.height(), products, sums);
    }
  }

  // sums = or += what the products of a scale group stand for * its scales.
  template <typename Levels>
  static void add_group(const TileOperands& o, int64_t group, int64_t rows, const int32_t* products, float* sums) {
    const int32_t* inputs = o.input_sums + group * rows;
    for (int64_t half = 0; half < 2; ++half) {
      const Vector scale = Vector::load(o.scales[half] + group * 16);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t at = r * kPairChannels + half * 16;
        const __m512i total = _mm512_add_epi32(load(products + at), _mm512_set1_epi32(Levels::begin(o, inputs[r])));
        add_scaled(sums + at, Levels::end(o, inputs[r], total, o.zero_points[half] + group * 16), scale, group == 0);
      }
    }
  }

  int64_t upper_rows_;
};

}  // namespace usmlite::cpu::USMLITE_ISA
