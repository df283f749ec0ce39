// What the matrix products for many tokens on GPUs before Hopper share: the tile of outputs that a thread block computes, how
// operands in rows come into shared memory and from there into fragments of `mma.sync`, and the way of the sums to memory.
//
// Outputs are computed as yᵀ = W xᵀ: channels are the rows of a fragment, tokens its columns. Warps lie in a grid of
// ChannelWarps by TokenWarps; each holds the sums of WarpTiles times 16 channels by Columns times 8 tokens. Operands come in
// *units* of 128 bytes of inputs (64 inputs of 16 bits, 128 of 8 bits).
#pragma once

#include "cuda/matmul_epilogue.cuh"
#include "cuda/ptx.cuh"
#include "cuda/tile_order.hpp"

namespace usmlite::cuda {

/// `Residency`: thread blocks that share a multiprocessor.
template <int ChannelWarps_, int TokenWarps_, int WarpTiles_, int Columns_, int Residency_> struct TileSm80 {
  static constexpr int ChannelWarps = ChannelWarps_, TokenWarps = TokenWarps_, WarpTiles = WarpTiles_, Columns = Columns_;
  static constexpr int Residency = Residency_;
  static constexpr int kWarps = ChannelWarps * TokenWarps, kThreads = 32 * kWarps;
  static constexpr int kWarpChannels = WarpTiles * kTileChannels, kWarpTokens = Columns * 8;
  static constexpr int kChannels = ChannelWarps * kWarpChannels, kTokens = TokenWarps * kWarpTokens;
  // Of the 164 KiB of an A100's multiprocessor, of which each block takes one more. A block alone fits into the 99 KiB of
  // compute capability 8.6 and 8.9.
  static constexpr int kMostSharedBytes = (Residency == 1 ? 99 : 164 / Residency - 1) * 1024;
};

using SmallTileSm80 = TileSm80<2, 2, 2, 4, 3>;   // 64 channels by 64 tokens
using MediumTileSm80 = TileSm80<2, 2, 4, 8, 2>;  // 128 by 128

template <class Tile> TileOrder tile_order_sm80(int tokens, int channels) {
  return {(tokens + Tile::kTokens - 1) / Tile::kTokens, (channels + Tile::kChannels - 1) / Tile::kChannels, 2048 / Tile::kTokens};
}

/// Where a warp works in its block's tile.
template <class Tile> struct WarpPlaceSm80 {
  int lane, first_tile, first_token;  // of 16 channels; of the block's tokens
  __device__ __forceinline__ WarpPlaceSm80() {
    const int warp = ptx::warp_id();
    lane = ptx::lane_id();
    first_tile = warp % Tile::ChannelWarps * Tile::WarpTiles;
    first_token = warp / Tile::ChannelWarps * Tile::kWarpTokens;
  }
};

// ---- operands in rows ----

inline constexpr int kUnitBytes = 128;

/// Units in shared memory have the 16-byte pieces of a row permuted, so that eight rows of a piece lie in different banks.
__device__ __forceinline__ int swizzled_piece(int row, int piece) { return row * kUnitBytes + ((piece ^ (row & 7)) * 16); }

/// Copies units of `Rows` rows of a matrix: what one thread of `Threads` has of that.
template <int Rows, int Threads> struct RowCopies {
  static constexpr int kRowsAtOnce = Threads / 8, kCopies = Rows / kRowsAtOnce;
  static_assert(Rows % kRowsAtOnce == 0 && kRowsAtOnce % 8 == 0);

  const uint8_t* from;   // this thread's piece of its first row
  int64_t step;          // bytes from one of its rows to the next
  int rows_left;         // from its first row on
  int bytes_left;        // of a row, from its piece on
  int place;             // of its first piece in a stage

  /// `stride` and `row_bytes`: bytes.
  __device__ __forceinline__ RowCopies(const void* matrix, int64_t stride, int row_bytes, int first_row, int rows) {
    const int thread = static_cast<int>(threadIdx.x), row = thread / 8, piece = thread % 8;
    from = static_cast<const uint8_t*>(matrix) + (first_row + row) * stride + piece * 16;
    step = kRowsAtOnce * stride;
    rows_left = rows - first_row - row;
    bytes_left = row_bytes - piece * 16;
    place = swizzled_piece(row, piece);
  }

  /// Starts the copies of unit `unit`; beyond the matrix, zeros. Rows end at multiples of 16 bytes, or, with `kAnyEnd`, anywhere.
  template <bool kAnyEnd = false> __device__ __forceinline__ void start(int unit, unsigned char* stage) const {
    const uint8_t* address = from + static_cast<int64_t>(unit) * kUnitBytes;
    const int left = bytes_left - unit * kUnitBytes;
#pragma unroll
    for (int i = 0; i < kCopies; ++i, address += step) {
      unsigned char* const to = stage + place + i * kRowsAtOnce * kUnitBytes;
      const bool within = left > 0 && i * kRowsAtOnce < rows_left;
      if constexpr (kAnyEnd) ptx::copy_async_16_of(to, address, within ? min(left, 16) : 0);
      else ptx::copy_async_16(to, address, within);
    }
  }
};

/// Copies units of a matrix (inputs, columns) whose columns are tokens or channels: 64 inputs of `Columns` of them, in blocks of 64, each
/// 64 rows of 128 bytes. What one thread of `Threads` has of that.
template <int Columns, int Threads> struct ColumnCopies {
  static constexpr int kInputs = 64, kBlocks = Columns / 64, kBlockBytes = kInputs * kUnitBytes;
  static constexpr int kRowsAtOnce = Threads / 8, kCopies = kInputs / kRowsAtOnce;
  static_assert(Columns % 64 == 0 && kInputs % kRowsAtOnce == 0 && kRowsAtOnce % 8 == 0);

  const uint8_t* from;  // this thread's piece of its first row
  int64_t stride;       // bytes
  int inputs_left;      // from its first row on
  int bytes_left;       // of a row, from its piece of the first block on
  int place;            // of its first piece in a stage

  __device__ __forceinline__ ColumnCopies(const void* matrix, int64_t stride, int inputs, int first_column, int columns) : stride(stride) {
    const int thread = static_cast<int>(threadIdx.x), row = thread / 8, piece = thread % 8;
    from = static_cast<const uint8_t*>(matrix) + row * stride + first_column * 2 + piece * 16;
    inputs_left = inputs - row;
    bytes_left = (columns - first_column) * 2 - piece * 16;
    place = swizzled_piece(row, piece);
  }

  /// Starts the copies of unit `unit`; beyond the matrix, zeros.
  __device__ __forceinline__ void start(int unit, unsigned char* stage) const {
    const uint8_t* address = from + unit * kInputs * stride;
    const int left = inputs_left - unit * kInputs;
#pragma unroll
    for (int i = 0; i < kCopies; ++i, address += kRowsAtOnce * stride) {
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        const int bytes = i * kRowsAtOnce < left ? min(max(bytes_left - block * kUnitBytes, 0), 16) : 0;
        ptx::copy_async_16_of(stage + place + block * kBlockBytes + i * kRowsAtOnce * kUnitBytes, address + block * kUnitBytes, bytes);
      }
    }
  }
};

/// The `b` fragments of a step for all of a warp's columns: dense, two registers for each, two columns in one ldmatrix; sparse,
/// four. `unit`: of the warp's first token. `kStep`: in the unit.
template <class Tile, bool kSparse> struct TokenFragments {
  static constexpr int kLoads = kSparse ? Tile::Columns : Tile::Columns / 2;
  uint32_t registers[kLoads][4];

  template <int kStep> __device__ __forceinline__ void load(const unsigned char* unit, int lane) {
    const int row = lane % 8 + (kSparse ? 0 : lane / 16 * 8), piece = kSparse ? lane / 8 : lane / 8 % 2;
    const unsigned char* const address = unit + swizzled_piece(row, kStep * (kSparse ? 4 : 2) + piece);
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
      ptx::load_matrix_x4(registers[load], address + load * (kSparse ? 8 : 16) * kUnitBytes);
    }
  }

  /// From what ColumnCopies left, dense. `stage`: of the block; `first_token`: of the warp.
  template <int kStep> __device__ __forceinline__ void load_transposed(const unsigned char* stage, int first_token, int lane) {
    static_assert(!kSparse);
    const int row = kStep * 16 + lane / 8 % 2 * 8 + lane % 8, piece = first_token % 64 / 8 + lane / 16;
    const unsigned char* const block = stage + first_token / 64 * (64 * kUnitBytes);
#pragma unroll
    for (int load = 0; load < kLoads; ++load) ptx::load_matrix_transposed_x4(registers[load], block + swizzled_piece(row, piece + 2 * load));
  }
};

// ---- sums ----

/// Shared memory of a warp in which its sums are transposed, 32 tokens at a time: rows are 4 floats longer than its channels,
/// so that neither writing nor reading meets bank conflicts.
template <class Tile> struct StagingSm80 {
  static constexpr int kTokens = 32, kColumns = kTokens / 8, kParts = Tile::Columns / kColumns, kRow = Tile::kWarpChannels + 4;
  static_assert(Tile::Columns % kColumns == 0);
  static constexpr int kWarpBytes = kTokens * kRow * 4, kBytes = Tile::kWarps * kWarpBytes;
};

/// Eight 16-bit values of a row of which `left` are left, zeros beyond; `aligned`: rows begin at multiples of 16 bytes.
__device__ __forceinline__ uint4 load_octet(const uint16_t* values, int left, bool aligned) {
  if (aligned && left >= 8) return *reinterpret_cast<const uint4*>(values);
  uint32_t pairs[4] = {};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < left) pairs[i / 2] |= static_cast<uint32_t>(values[i]) << (16 * (i % 2));
  }
  return {pairs[0], pairs[1], pairs[2], pairs[3]};
}
/// Stores eight values of a row of which `left` are left.
__device__ __forceinline__ void store_octet(uint16_t* values, int left, bool aligned, const uint32_t (&pairs)[4]) {
  if (aligned && left >= 8) {
    *reinterpret_cast<uint4*>(values) = uint4{pairs[0], pairs[1], pairs[2], pairs[3]};
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < left) values[i] = static_cast<uint16_t>(pairs[i / 2] >> (16 * (i % 2)));
  }
}

/// Finishes (matmul_epilogue.cuh) and stores a warp's sums; d as `mma` leaves it. `channel_begin`, `token_begin`: of the warp.
/// Each lane finishes eight outputs of a token at a time. `kOffsets`: activations may have offsets. `kMayBeWide`: y and the residual are float32
/// where `wide` is.
template <typename T, class Tile, bool kOffsets = false, bool kMayBeWide = false, typename Sum>
__device__ __forceinline__ void store_sums_sm80(const MatmulArguments& m, const Sum (&d)[Tile::WarpTiles][Tile::Columns][4], int channel_begin,
                                                int token_begin, int lane, float* staging, bool wide = false) {
  using S = StagingSm80<Tile>;
  const bool glu = m.activation == Activation::kGlu;
  const int width = glu ? m.weight.channels / 2 : m.weight.channels;
  const bool aligned = (m.y_stride & 7) == 0 && ((reinterpret_cast<uintptr_t>(m.y) | reinterpret_cast<uintptr_t>(m.residual)) & 15) == 0;
  const int octets = Tile::kWarpChannels / (glu ? 16 : 8), octet = lane % octets, tokens_at_once = 32 / octets;
  const int first = glu ? 16 * octet : 8 * octet, second = glu ? first + 8 : first;  // of the warp's channels
  const int channel = (glu ? channel_begin / 2 : channel_begin) + 8 * octet, left = width - channel;  // of y
  ChannelPair pairs[8] = {};
  if (left > 0) {
#pragma unroll
    for (int i = 0; i < 8; ++i) pairs[i] = load_channel_pair(m, channel_begin + first + i, channel_begin + second + i);
  }
#pragma unroll 1
  for (int part = 0; part < S::kParts; ++part) {
    ptx::warp_sync();
#pragma unroll
    for (int p = 0; p < S::kParts; ++p) {
      if (p != part) continue;
#pragma unroll
      for (int tile = 0; tile < Tile::WarpTiles; ++tile) {
#pragma unroll
        for (int column = 0; column < S::kColumns; ++column) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            staging[(column * 8 + lane % 4 * 2 + i % 2) * S::kRow + tile * kTileChannels + lane / 4 + 8 * (i / 2)] =
                static_cast<float>(d[tile][p * S::kColumns + column][i]);
          }
        }
      }
    }
    ptx::warp_sync();
    const int first_token = token_begin + part * S::kTokens, rows = left > 0 ? min(S::kTokens, m.tokens - first_token) : 0;
    const auto residual_of = [&](int row) {
      const uint16_t* residual = static_cast<const uint16_t*>(m.residual) + (first_token + row) * m.y_stride + channel;
      return m.residual && !(kMayBeWide && wide) && row < rows ? load_octet(residual, left, aligned) : uint4{};
    };
    uint4 next_residual = residual_of(lane / octets);
#pragma unroll 1
    for (int row = lane / octets; row < rows; row += tokens_at_once) {
      const int token = first_token + row;
      const uint4 residual = next_residual;
      next_residual = residual_of(row + tokens_at_once);
      const float row_scale = m.row_scales ? m.row_scales[token] : 1.0f;
      const float* const sums = staging + row * S::kRow;
      float y[8], gates[8];  // the same but for kGlu
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        ChannelPair pair = pairs[i];
        if constexpr (kOffsets) pair = with_row_offset(m, pair, token, channel_begin + first + i, channel_begin + second + i);
        const float2 value_and_gate = scale_sums(pair, row_scale, sums[first + i], sums[second + i]);
        y[i] = value_and_gate.x, gates[i] = value_and_gate.y;
      }
      activate(m.activation, y, gates);
#pragma unroll
      for (int i = 0; i < 8; ++i) y[i] *= m.scale;
      if constexpr (kMayBeWide) {
        if (wide) {
          store_wide_outputs(m, token, channel, y);
          continue;
        }
      }
      if (m.residual) {
        const uint32_t words[4] = {residual.x, residual.y, residual.z, residual.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float2 values = ptx::floats2<T>(words[i]);
          y[2 * i] += values.x * m.residual_scale, y[2 * i + 1] += values.y * m.residual_scale;
        }
      }
      store_octet(static_cast<uint16_t*>(m.y) + token * m.y_stride + channel, left, aligned,
                  {ptx::round2<T>(y[0], y[1]), ptx::round2<T>(y[2], y[3]), ptx::round2<T>(y[4], y[5]), ptx::round2<T>(y[6], y[7])});
    }
  }
}

}  // namespace usmlite::cuda
