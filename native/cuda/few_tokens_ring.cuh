// The ring in shared memory through which the chunks of a product with few tokens come (see few_tokens_plan.hpp): what a
// thread copies, from where, to where.
#pragma once

#include "cuda/dequantize.cuh"
#include "cuda/few_tokens_layout.hpp"
#include "cuda/matmul_arguments.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {

template <Codes C, Arithmetic A, bool kSparse, int kTokens> struct FewTokensRing {
  static constexpr int kSlices = slices_per_chunk(C, kSparse), kInputs = chunk_inputs(C, kSparse);
  static constexpr int kTileBytes = tile_bytes(C), kCodeBytes = chunk_code_bytes(C, kSparse);
  static constexpr int kMetadataBytes = chunk_metadata_bytes(kSparse);
  static constexpr int kRowBytes = chunk_row_bytes(C, A, kSparse), kRowUnits = kRowBytes / 16;
  static constexpr int kElementBytes = element_bytes(A), kInputsPerUnit = 16 / kElementBytes;  // of activations
  static constexpr int kTiles = 2;  // of a warp
  static constexpr int kGroupRows = rows_per_group(C);
  // The threads of a team copy so many rows of groups at once, for all blocks of the band.
  static constexpr int kRowsAtOnce = 8;

  /// Where this thread works.
  struct Place {
    int lane, team, team_thread;
    int block_of_band, first_tile;  // of this warp
    unsigned char* ring;            // of its team
  };

  static __device__ __forceinline__ Place place(const FewTokensLayout& layout, int warp, int lane) {
    Place p;
    const int warp_of_team = warp & (team_warps(layout) - 1);
    p.lane = lane;
    p.team = warp >> (1 + layout.band_shift);
    p.team_thread = warp_of_team * 32 + p.lane;
    p.block_of_band = warp_of_team / 2, p.first_tile = warp_of_team % 2 * kTiles;
    p.ring = shared_memory() + kRingOffset + p.team * (layout.stages * layout.stage_bytes);
    return p;
  }
  static __device__ __forceinline__ int team_warps(const FewTokensLayout& layout) { return 2 << layout.band_shift; }
  static __device__ __forceinline__ int team_threads(const FewTokensLayout& layout) { return 64 << layout.band_shift; }

  /// Activations are stored with the 16-byte units of a row permuted, so that eight rows of a unit lie in different banks.
  static __device__ __forceinline__ int swizzled_unit(int row, int unit) {
    return kRowUnits >= 8 ? unit ^ (row & 7) : unit ^ (row / 2 & 3);
  }

  /// What this thread copies of each chunk of a band: from where, for chunk 0.
  struct Source {
    const uint8_t* codes;    // its 16 bytes of every 1,024 of its block
    const uint8_t* metadata;
    const uint8_t* x;        // its unit of every few rows
    const uint16_t* scales;  // its unit
    int slices;              // of codes that there are: 0 beyond the last block
    int scale_rows;          // where zeros begin; negative where it copies no scales
  };

  static __device__ __forceinline__ Source source(const MatmulArguments& m, const FewTokensLayout& layout, const Place& p, int band,
                                                  int first_token) {
    const WeightView& w = m.weight;
    Source s;
    const int block = (band << layout.band_shift) + p.block_of_band, thread = p.team_thread % 64;  // of the two warps of a block
    s.slices = block < w.blocks ? w.slices : 0;
    s.codes = w.tiles + static_cast<int64_t>(block) * w.slices * (4 * kTileBytes) + thread * 16;
    s.metadata = kSparse ? w.metadata + static_cast<int64_t>(block) * w.slices * kMetadataBytes + thread * 16 : nullptr;
    const int x_row = p.team_thread / kRowUnits, x_unit = p.team_thread % kRowUnits;
    s.x = static_cast<const uint8_t*>(m.x) + ((first_token + x_row) * m.x_stride + x_unit * kInputsPerUnit) * kElementBytes;
    const int scaled_block = (band << layout.band_shift) + (p.team_thread >> 3 & ((1 << layout.band_shift) - 1));
    s.scale_rows = scale_row(layout, p.team_thread) >= layout.chunk_rows ? -1 : scaled_block < w.blocks ? layout.rows : 0;
    s.scales = w.group_scales + static_cast<int64_t>(scaled_block) * layout.rows * kBlockChannels + p.team_thread % 8 * 8;
    return s;
  }
  /// The first row of scales of a chunk that a thread copies its unit of.
  static __device__ __forceinline__ int scale_row(const FewTokensLayout& layout, int team_thread) {
    return team_thread >> (layout.band_shift + 3);
  }

  /// Starts the copies of a chunk's codes, metadata and scales to `stage`; beyond the weight, zeros.
  static __device__ __forceinline__ void fetch_weight(const FewTokensLayout& layout, int team_thread, const Source& s, int chunk,
                                                      unsigned char* stage) {
    const int thread = team_thread % 64, block = team_thread / 64, slices = s.slices - chunk * kSlices;
    constexpr int kUnitsPerSlice = 4 * kTileBytes / 16;
    const uint8_t* codes = s.codes + static_cast<int64_t>(chunk) * kCodeBytes;
    unsigned char* to = stage + block * kCodeBytes + thread * 16;
#pragma unroll
    for (int i = 0; i < kCodeBytes / 1024; ++i) {
      const int unit = kUnitsPerSlice % 64 == 0 ? i * 64 : i * 64 + thread;  // often a matter of i alone
      ptx::copy_async_16(to + i * 1024, codes + i * 1024, unit / kUnitsPerSlice < slices);
    }
    if constexpr (kSparse) {
      ptx::copy_async_16(stage + layout.metadata_offset + block * kMetadataBytes + thread * 16,
                         s.metadata + static_cast<int64_t>(chunk) * kMetadataBytes, slices > 0);
    }
    if constexpr (kIs16Bit<A>) {
      constexpr int kRowCopies = (kInputs / 32 * kGroupRows + kRowsAtOnce - 1) / kRowsAtOnce;
#pragma unroll
      for (int i = 0; i < kRowCopies; ++i) {
        const int of_chunk = scale_row(layout, team_thread) + i * kRowsAtOnce;
        if (i == 0 ? s.scale_rows >= 0 : of_chunk < layout.chunk_rows) {
          const int row = (chunk * kInputs >> layout.group_shift) * kGroupRows + of_chunk;
          ptx::copy_async_16(stage + layout.scale_offset + (team_thread + i * team_threads(layout)) * 16, s.scales + row * kBlockChannels,
                             row < s.scale_rows);
        }
      }
    }
  }

  /// The same for its activations.
  static __device__ __forceinline__ void fetch_activations(const MatmulArguments& m, const FewTokensLayout& layout, int team_thread,
                                                           const Source& s, int chunk, int first_token, unsigned char* stage) {
    const int unit = team_thread % kRowUnits, rows = team_threads(layout) / kRowUnits;  // at once
    const uint8_t* x = s.x + static_cast<int64_t>(chunk) * kRowBytes;
    const bool within = chunk * kInputs + unit * kInputsPerUnit < m.weight.inputs;
    for (int row = team_thread / kRowUnits; row < kTokens; row += rows, x += rows * m.x_stride * kElementBytes) {
      ptx::copy_async_16(stage + layout.x_offset + row * kRowBytes + swizzled_unit(row, unit) * 16, x,
                         within && first_token + row < m.tokens);
    }
  }

  /// Until this thread's copies of the oldest chunk have come.
  static __device__ __forceinline__ void wait_for_chunk(int stages) {
    static_assert(kFewestStages == 2 && kMostStages == 4);
    if (stages == 4) return ptx::copy_async_wait<2>();
    if (stages == 3) return ptx::copy_async_wait<1>();
    ptx::copy_async_wait<0>();
  }
};

}  // namespace usmlite::cuda
