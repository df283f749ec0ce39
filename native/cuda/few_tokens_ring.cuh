// The ring in shared memory through which the chunks of a product with few tokens come (see few_tokens_plan.hpp): what a
// thread copies, from where, to where.
#pragma once

#include "cuda/dequantize.cuh"
#include "cuda/few_tokens_plan.hpp"
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

  /// Where this thread works, and the place of things in a stage of its team's ring.
  struct Place {
    int lane, team, team_thread, team_threads;
    int block_of_band, first_tile;  // of this warp
    int band_shift, group_shift;    // logarithms of the blocks of a band and of the inputs of a group
    int chunk_rows, rows;           // that groups have for a block, in a chunk and in all; 0 without groups
    int stage_bytes, metadata_offset, x_offset, scale_offset;
    unsigned char* ring;
  };

  static __device__ __forceinline__ Place place(const WeightView& w, const FewTokensPlan& plan, int stages) {
    Place p;
    p.band_shift = plan.band_blocks == 4 ? 2 : plan.band_blocks - 1;
    const int group_size = kIs16Bit<A> ? w.group_size : 0;
    p.group_shift = group_size == 32 ? 5 : group_size == 64 ? 6 : 7;
    p.chunk_rows = group_size == 0 ? 0 : (group_size >= kInputs ? 1 : kInputs >> p.group_shift) * kGroupRows;
    p.rows = group_size == 0 ? 0 : ((w.inputs + group_size - 1) >> p.group_shift) * kGroupRows;
    const int team_warps = 2 << p.band_shift, warp = ptx::warp_id(), warp_of_team = warp & (team_warps - 1);
    p.lane = ptx::lane_id();
    p.team = warp >> (1 + p.band_shift);
    p.team_thread = warp_of_team * 32 + p.lane, p.team_threads = team_warps * 32;
    p.block_of_band = warp_of_team / 2, p.first_tile = warp_of_team % 2 * kTiles;
    p.metadata_offset = plan.band_blocks * kCodeBytes;
    p.x_offset = p.metadata_offset + plan.band_blocks * kMetadataBytes;
    p.scale_offset = p.x_offset + kTokens * kRowBytes;
    p.stage_bytes = p.scale_offset + p.chunk_rows * plan.band_blocks * kBlockChannels * 2;
    p.ring = shared_memory() + kRingOffset + p.team * stages * p.stage_bytes;
    return p;
  }

  /// Activations are stored with the 16-byte units of a row permuted, so that eight rows of a unit lie in different banks.
  static __device__ __forceinline__ int swizzled_unit(int row, int unit) {
    return kRowUnits >= 8 ? unit ^ (row & 7) : unit ^ (row / 2 & 3);
  }

  /// What this thread copies of each chunk of a band: from where, for chunk 0.
  struct Source {
    const uint8_t* codes;     // its 16 bytes of every 1,024 of its block
    const uint8_t* metadata;
    const uint8_t* x;         // its unit of every few rows
    const uint16_t* scales;   // its unit
    int slices;               // of codes that there are: 0 beyond the last block
    int x_row, x_unit;
    int scale_row, scale_rows;  // of its unit in a chunk, and where zeros begin; negative where it copies no scales
  };

  static __device__ __forceinline__ Source source(const MatmulArguments& m, const FewTokensPlan& plan, const Place& p, int band,
                                                  int first_token) {
    const WeightView& w = m.weight;
    Source s;
    const int block = (band << p.band_shift) + p.block_of_band, thread = p.team_thread % 64;  // of the two warps of a block
    s.slices = block < w.blocks ? w.slices : 0;
    s.codes = w.tiles + static_cast<int64_t>(block) * w.slices * (4 * kTileBytes) + thread * 16;
    s.metadata = kSparse ? w.metadata + static_cast<int64_t>(block) * w.slices * kMetadataBytes + thread * 16 : nullptr;
    s.x_row = p.team_thread / kRowUnits, s.x_unit = p.team_thread % kRowUnits;
    s.x = static_cast<const uint8_t*>(m.x) + ((first_token + s.x_row) * m.x_stride + s.x_unit * kInputsPerUnit) * kElementBytes;
    s.scale_row = p.team_thread >> (p.band_shift + 3);
    const int scaled_block = (band << p.band_shift) + (p.team_thread >> 3 & (plan.band_blocks - 1));
    s.scale_rows = s.scale_row >= p.chunk_rows ? -1 : scaled_block < w.blocks ? p.rows : 0;
    s.scales = w.group_scales + static_cast<int64_t>(scaled_block) * p.rows * kBlockChannels + p.team_thread % 8 * 8;
    return s;
  }

  /// Starts the copies of a chunk's codes, metadata and scales to `stage`; beyond the weight, zeros.
  static __device__ __forceinline__ void fetch_weight(const Place& p, const Source& s, int chunk, unsigned char* stage) {
    const int thread = p.team_thread % 64, slices = s.slices - chunk * kSlices;
    constexpr int kUnitsPerSlice = 4 * kTileBytes / 16;
    const uint8_t* codes = s.codes + static_cast<int64_t>(chunk) * kCodeBytes;
    unsigned char* to = stage + p.block_of_band * kCodeBytes + thread * 16;
#pragma unroll
    for (int i = 0; i < kCodeBytes / 1024; ++i) {
      const int unit = kUnitsPerSlice % 64 == 0 ? i * 64 : i * 64 + thread;  // often a matter of i alone
      ptx::copy_async_16(to + i * 1024, codes + i * 1024, unit / kUnitsPerSlice < slices);
    }
    if constexpr (kSparse) {
      ptx::copy_async_16(stage + p.metadata_offset + p.block_of_band * kMetadataBytes + thread * 16,
                         s.metadata + static_cast<int64_t>(chunk) * kMetadataBytes, slices > 0);
    }
    if constexpr (kIs16Bit<A>) {
      constexpr int kRowCopies = (kInputs / 32 * kGroupRows + kRowsAtOnce - 1) / kRowsAtOnce;
#pragma unroll
      for (int i = 0; i < kRowCopies; ++i) {
        const int of_chunk = s.scale_row + i * kRowsAtOnce;
        if (i == 0 ? s.scale_rows >= 0 : of_chunk < p.chunk_rows) {
          const int row = (chunk * kInputs >> p.group_shift) * kGroupRows + of_chunk;
          ptx::copy_async_16(stage + p.scale_offset + (p.team_thread + i * p.team_threads) * 16, s.scales + row * kBlockChannels, row < s.scale_rows);
        }
      }
    }
  }

  /// The same for its activations.
  static __device__ __forceinline__ void fetch_activations(const MatmulArguments& m, const Place& p, const Source& s, int chunk,
                                                           int first_token, unsigned char* stage) {
    const uint8_t* x = s.x + static_cast<int64_t>(chunk) * kRowBytes;
    const bool within = chunk * kInputs + s.x_unit * kInputsPerUnit < m.weight.inputs;
    const int rows = p.team_threads / kRowUnits;  // at once
    for (int row = s.x_row; row < kTokens; row += rows, x += rows * m.x_stride * kElementBytes) {
      ptx::copy_async_16(stage + p.x_offset + row * kRowBytes + swizzled_unit(row, s.x_unit) * 16, x,
                         within && first_token + row < m.tokens);
    }
  }

  /// Until this thread's copies of the oldest chunk have come.
  static __device__ __forceinline__ void wait_for_chunk(int stages) {
    switch (stages) {
      case 2: return ptx::copy_async_wait<0>();
      case 3: return ptx::copy_async_wait<1>();
      case 4: return ptx::copy_async_wait<2>();
      case 5: return ptx::copy_async_wait<3>();
      default: return ptx::copy_async_wait<kMostStages - 2>();
    }
  }
};

}  // namespace usmlite::cuda
