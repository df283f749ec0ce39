// What the passes of attention share: rows of a head in shared memory, and their products. A block of four warps has 64 rows,
// 16 a warp, and goes through rows of another kind in tiles.
#pragma once

#include "cuda/dropout.cuh"
#include "cuda/natural_logarithm.cuh"
#include "cuda/ptx.cuh"
#include "cuda/runtime.hpp"

namespace usmlite::cuda {

namespace attention_tiles {

inline constexpr int kWarps = 4, kThreads = 32 * kWarps;
inline constexpr int kQueries = 16 * kWarps;
inline constexpr float kNever = -1e30f;  // a score that has no weight, but is a number

/// Rows of kD 16-bit floats in shared memory, 16 bytes apart more than they are long: ldmatrix then meets no bank twice.
template <int kD> inline constexpr int kRow = kD + 8;

/// Starts copying `rows` rows of a head from row `first` on; zeros for rows outside [begin, end) and columns beyond the head.
template <int kD>
__device__ __forceinline__ void copy_rows(uint16_t* tile, int rows, const uint16_t* from, int64_t stride, int first, int begin, int end,
                                          int head_dim) {
  constexpr int kChunks = kD / 8;
  for (int i = static_cast<int>(threadIdx.x); i < rows * kChunks; i += kThreads) {
    const int row = i / kChunks, column = i % kChunks * 8;
    const bool valid = first + row >= begin && first + row < end && column < head_dim;
    ptx::copy_async_16(tile + row * kRow<kD> + column, valid ? from + (first + row) * stride + column : from, valid);
  }
}

/// The `a` fragments of 16 rows.
template <int kD> __device__ __forceinline__ void load_queries(uint32_t (&a)[kD / 16][4], const uint16_t* rows, int lane) {
#pragma unroll
  for (int step = 0; step < kD / 16; ++step) {
    ptx::load_matrix_x4(a[step], rows + (lane % 16) * kRow<kD> + 16 * step + 8 * (lane / 16));
  }
}

/// sums (16, 8 * kTiles) = a . rowsᵀ
template <typename T, int kD, int kTiles>
__device__ __forceinline__ void multiply_rows(float (&sums)[kTiles][4], const uint32_t (&a)[kD / 16][4], const uint16_t* rows, int lane) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) sums[tile][0] = sums[tile][1] = sums[tile][2] = sums[tile][3] = 0.0f;
#pragma unroll
  for (int step = 0; step < kD / 16; ++step) {
#pragma unroll
    for (int tile = 0; tile < kTiles; tile += 2) {
      uint32_t b[4];
      ptx::load_matrix_x4(b, rows + (8 * tile + lane % 8 + 8 * (lane / 16)) * kRow<kD> + 16 * step + 8 * (lane / 8 % 2));
      const uint32_t b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
      ptx::mma<T>(sums[tile], a[step], b0);
      ptx::mma<T>(sums[tile + 1], a[step], b1);
    }
  }
}

/// sums (16, 8 * kTiles) = 16 rows . columnsᵀ, with the rows taken from shared memory step by step: that spares registers.
template <typename T, int kD, int kTiles>
__device__ __forceinline__ void multiply(float (&sums)[kTiles][4], const uint16_t* rows, const uint16_t* columns, int lane) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) sums[tile][0] = sums[tile][1] = sums[tile][2] = sums[tile][3] = 0.0f;
#pragma unroll
  for (int step = 0; step < kD / 16; ++step) {
    uint32_t a[4];
    ptx::load_matrix_x4(a, rows + (lane % 16) * kRow<kD> + 16 * step + 8 * (lane / 16));
#pragma unroll
    for (int tile = 0; tile < kTiles; tile += 2) {
      uint32_t b[4];
      ptx::load_matrix_x4(b, columns + (8 * tile + lane % 8 + 8 * (lane / 16)) * kRow<kD> + 16 * step + 8 * (lane / 8 % 2));
      const uint32_t b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
      ptx::mma<T>(sums[tile], a, b0);
      ptx::mma<T>(sums[tile + 1], a, b1);
    }
  }
}

/// sums (16, kD) += a . rows for an `a` fragment (16, 16) and rows (16, kD).
template <typename T, int kD>
__device__ __forceinline__ void multiply_step(float (&sums)[kD / 8][4], const uint32_t (&a)[4], const uint16_t* rows, int lane) {
#pragma unroll
  for (int tile = 0; tile < kD / 8; tile += 2) {
    uint32_t b[4];
    ptx::load_matrix_transposed_x4(b, rows + (lane % 16) * kRow<kD> + 8 * tile + 8 * (lane / 16));
    const uint32_t b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
    ptx::mma<T>(sums[tile], a, b0);
    ptx::mma<T>(sums[tile + 1], a, b1);
  }
}

/// sums (16, kD) += a . rows for a (16, kColumns) of floats, rounded, that products left in registers, and rows (kColumns, kD).
template <typename T, int kD, int kColumns>
__device__ __forceinline__ void accumulate(float (&sums)[kD / 8][4], const float (&a)[kColumns / 8][4], const uint16_t* rows, int lane) {
#pragma unroll
  for (int step = 0; step < kColumns / 16; ++step) {
    const float(&s0)[4] = a[2 * step];
    const float(&s1)[4] = a[2 * step + 1];
    const uint32_t rounded[4] = {ptx::round2<T>(s0[0], s0[1]), ptx::round2<T>(s0[2], s0[3]), ptx::round2<T>(s1[0], s1[1]),
                                 ptx::round2<T>(s1[2], s1[3])};
    multiply_step<T, kD>(sums, rounded, rows + 16 * step * kRow<kD>, lane);
  }
}

/// Stores 16 rows of sums, times a factor, from row `row` of the batch on.
template <typename T, int kD>
__device__ __forceinline__ void store_rows(uint16_t* to, int64_t stride, const float (&sums)[kD / 8][4], float factor, int row, int end,
                                           int head_dim, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int frame = row + lane / 4 + 8 * half;
#pragma unroll
    for (int tile = 0; tile < kD / 8; ++tile) {
      const int column = 8 * tile + 2 * (lane % 4);
      if (frame < end && column < head_dim) {
        *reinterpret_cast<uint32_t*>(to + frame * stride + column) =
            ptx::round2<T>(sums[tile][2 * half] * factor, sums[tile][2 * half + 1] * factor);
      }
    }
  }
}

/// The keys that a block holds at a time, and, with relative positions, what comes on top of them. With two stages the next tile is copied
/// while one is used. Row r of a warp's 16 queries needs, for key j, row 15 - r + j of the positions from the warp's first on.
template <int kKeysOfTile, int kStagesOfTiles> struct KeyTiles {
  static constexpr int kKeys = kKeysOfTile, kStages = kStagesOfTiles;
  static constexpr int kPositions = kQueries + kKeys;  // rows of p that a tile of scores needs, and one more
  static constexpr int kPositionsPerWarp = 16 + kKeys;
  static constexpr int kSkewedStride = kPositionsPerWarp + 4;  // floats; so that rows start in different banks
};
inline constexpr int kPositionKeys = 32;
using PositionTiles = KeyTiles<kPositionKeys, 2>;

/// Whether a block of every GPU has room for these tiles: then they need no other kernel; and whether one of the GPU at hand has.
template <typename T> inline constexpr bool kFitsEverywhere = sizeof(T) <= 99 * 1024;
template <typename T> bool fits_here() { return sizeof(T) <= static_cast<size_t>(gpu_properties().shared_bytes_per_block); }

/// Adds products of queries with positions to the scores of their keys. `skewed` (16, Tiles::kSkewedStride) is the warp's.
template <class Tiles>
__device__ __forceinline__ void add_by_distance(float (&scores)[Tiles::kKeys / 8][4], const float (&products)[Tiles::kPositionsPerWarp / 8][4],
                                                float* skewed, int lane) {
  constexpr int kSkewedStride = Tiles::kSkewedStride;
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int tile = 0; tile < Tiles::kPositionsPerWarp / 8; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) skewed[(g + 8 * (i / 2)) * kSkewedStride + 8 * tile + 2 * t + i % 2] = products[tile][i];
  }
  ptx::warp_sync();
#pragma unroll
  for (int tile = 0; tile < Tiles::kKeys / 8; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = g + 8 * (i / 2);
      scores[tile][i] += skewed[row * kSkewedStride + 15 - row + 8 * tile + 2 * t + i % 2];
    }
  }
  ptx::warp_sync();
}

/// Index in the dropout stream of the probability that row `frame` of the batch gives to the first key of its sequence; keys
/// follow (AttentionProblem of the CPU). Sequences have at most 2^18 frames.
__device__ __forceinline__ uint64_t dropout_index(int64_t frame, int heads, int head) {
  return static_cast<uint64_t>(frame * heads + head) << 18;
}

/// Drops probabilities (16, kColumns) of queries in rows; `indices`: of the rows g and g + 8 and the first column.
template <int kColumns>
__device__ __forceinline__ void drop(float (&probabilities)[kColumns / 8][4], int lane, const Dropout& dropout, const uint64_t (&indices)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int tile = 0; tile < kColumns / 8; ++tile) {
      const int column = 8 * tile + 2 * (lane % 4);
      const uint64_t bits = dropout_bits(dropout.seed, (indices[half] + static_cast<uint64_t>(column)) / 4);
#pragma unroll
      for (int i = 0; i < 2; ++i) probabilities[tile][2 * half + i] *= dropout_multiplier(dropout, bits, column % 4 + i);
    }
  }
}

}  // namespace attention_tiles

}  // namespace usmlite::cuda
