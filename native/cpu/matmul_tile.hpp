// What a blocked matrix product is made of: its register tile, the sizes of its blocks, its operands in panels, and the way
// of a tile's sums into the result. matmul.cpp puts them in order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/divide_up.hpp"
#include "cpu/matmul.hpp"
#include "cpu/matmul_finish.hpp"
#include "cpu/matmul_pack.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// The register tile: kTileRows * 2 accumulators, 2 vectors of b and one broadcast of a fill the register file
// (16 registers with AVX2, 32 with AVX-512).
constexpr int64_t kTileRows = Vector::kLanes == 16 ? 12 : 6;
constexpr int64_t kTileColumns = 2 * Vector::kLanes;
// Depth of a block. AVX2: a panel of b (kDepth x kTileColumns) takes 24 KB, most of a first-level cache. AVX-512: the panel
// of a (kTileRows x kDepth) takes as much, and b comes from the second level, 128 bytes in twelve cycles.
constexpr int64_t kDepth = Vector::kLanes == 16 ? 512 : 384;
// Rows of a block of a: kRows x kDepth takes about 220 KB (AVX-512: 290 KB), part of a second-level cache.
constexpr int64_t kRows = 144;
// Packed b is made for this many elements at a time (2 MB), so that it stays in the last-level cache.
constexpr int64_t kPackedElements = 1 << 19;
constexpr int64_t kPackedColumns = 1024;
// With fewer rows than this per thread, threads divide the columns instead and each packs its own part of b.
constexpr int64_t kRowsPerThread = 48;
// Elements of a below which all of it is packed at once (256 KB).
constexpr int64_t kFewElements = 1 << 16;
// Panels packed side by side where the vectors are interleaved in memory.
constexpr int64_t kPanelGroup = 8;
constexpr int64_t kTurns = 4;
// Tiles of so few rows wait for b: floats of it that are fetched ahead, beyond the page where the processor's own prefetching ends.
constexpr int64_t kStreamedRows = 8;
constexpr int64_t kStreamAhead = 4096;
// Multiply-adds below which waking a thread costs more than it saves.
constexpr int64_t kWorkPerThread = 1 << 17;

struct Product {
  bool transpose_a, transpose_b;
  int64_t m, n, k;
  Rows a, b;  // as stored
  float beta;
  float* c;
  int64_t ldc;
  const int64_t* c_starts;  // may be null
  const MatmulEpilogue* epilogue;
  bool only_scales;  // the epilogue does
  const float* prepacked = nullptr;  // b in panels of kPrepackedColumns, then `b` is not read

  int64_t c_row(int64_t row) const { return c_starts ? c_starts[row] : row * ldc; }
  // From one depth to the next of a panel of b.
  int64_t b_step() const { return prepacked ? kPrepackedColumns : kTileColumns; }
};

// tile (Rows, kTileColumns) = a panel (Rows) . b panel, whose rows are b_step apart, over `depth` >= 1. Kept out of line: inlined into loops that need
// registers themselves, the compiler keeps some of the sums in memory.
template <int64_t Rows>
[[gnu::noinline]] void multiply_tile(int64_t depth, const float* a, const float* b, int64_t b_step, float* tile) {
  Vector sum[Rows][2];
  // The first step starts the sums; starting them with zeros would become a memset of an array in memory.
  const Vector first0 = Vector::load(b), first1 = Vector::load(b + Vector::kLanes);
#pragma GCC unroll 16
  for (int64_t r = 0; r < Rows; ++r) {
    const Vector broadcast = Vector::all(a[r]);
    sum[r][0] = broadcast * first0;
    sum[r][1] = broadcast * first1;
  }
  for (int64_t k = 1; k < depth; ++k) {
    a += Rows;
    b += b_step;
    if constexpr (Rows <= kStreamedRows) {
      _mm_prefetch(reinterpret_cast<const char*>(b + kStreamAhead), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(b + kStreamAhead + Vector::kLanes), _MM_HINT_T0);
    }
    const Vector b0 = Vector::load(b), b1 = Vector::load(b + Vector::kLanes);
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) {
      const Vector broadcast = Vector::all(a[r]);
      sum[r][0] = multiply_add(broadcast, b0, sum[r][0]);
      sum[r][1] = multiply_add(broadcast, b1, sum[r][1]);
    }
  }
#pragma GCC unroll 16
  for (int64_t r = 0; r < Rows; ++r) {
    sum[r][0].store(tile + r * kTileColumns);
    sum[r][1].store(tile + r * kTileColumns + Vector::kLanes);
  }
}

template <int64_t Rows = kTileRows>
void multiply_tile(int64_t rows, int64_t depth, const float* a, const float* b, int64_t b_step, float* tile) {
  if constexpr (Rows > 1) {
    if (rows < Rows) return multiply_tile<Rows - 1>(rows, depth, a, b, b_step, tile);
  }
  multiply_tile<Rows>(depth, a, b, b_step, tile);
}

// Blocks of the depth. They depend on k alone: the order of summation must not depend on the other sizes.
int64_t depth_block(int64_t k) { return divide_up(k, std::max<int64_t>(divide_up(k, kDepth), 1)); }

// Packed b: columns [begin, end) of depth [k_begin, k_end), whole depth blocks; for each of them one panel of
// kTileColumns after the other.
struct PackedB {
  int64_t begin, end, k_begin, k_end;
  float* data;

  int64_t panels() const { return divide_up(end - begin, kTileColumns); }
  float* panel(int64_t index, int64_t k0, int64_t depth) const {
    return data + (k0 - k_begin) * panels() * kTileColumns + index * kTileColumns * depth;
  }
};

// `count` columns from `column` on, over one depth block, in panels of kTileColumns.
void pack_b_panels(const Product& p, int64_t column, int64_t count, int64_t k0, int64_t depth, float* out) {
  if (p.transpose_b) {
    pack_contiguous_vectors(p.b, column, count, k0, depth, kTileColumns, out);
  } else {
    pack_interleaved_vectors<2>(p.b, column, count, count, k0, depth, kTileColumns, true, kTileColumns * depth, out);
  }
}

// The panel of columns that begins at `column`, over one depth block: as it lies, or packed into `room`.
const float* b_panel(const Product& p, int64_t column, int64_t k0, int64_t depth, float* room) {
  if (p.prepacked) return p.prepacked + column / kPrepackedColumns * kPrepackedColumns * p.k + k0 * kPrepackedColumns + column % kPrepackedColumns;
  pack_b_panels(p, column, std::min(kTileColumns, p.n - column), k0, depth, room);
  return room;
}

// Panels [first, last) of every depth block.
void pack_b(const Product& p, const PackedB& packed, int64_t first, int64_t last) {
  const int64_t block = depth_block(p.k), step = p.transpose_b ? 1 : kPanelGroup;
  for (int64_t k0 = packed.k_begin; k0 < packed.k_end; k0 += block) {
    const int64_t depth = std::min(block, packed.k_end - k0);
    for (int64_t panel = first; panel < last; panel += step) {
      const int64_t column = packed.begin + panel * kTileColumns;
      const int64_t limit = std::min(packed.begin + std::min(panel + step, last) * kTileColumns, packed.end);
      pack_b_panels(p, column, limit - column, k0, depth, packed.panel(panel, k0, depth));
    }
  }
}

// Rows of the tiles that `rows` rows are divided into: 8 rows are better done as 4 + 4 than as 6 + 2.
int64_t tile_height(int64_t rows) { return divide_up(rows, divide_up(rows, kTileRows)); }

// Between the panels of a: the slack of each. It also keeps panels of a depth that is a power of two from sharing one
// set of the cache, where writing them side by side would evict them.
int64_t a_panel_stride(int64_t height, int64_t depth) { return height * depth + kPanelSlack; }

// Room for up to `rows` rows: fewer rows than a multiple of kTileRows may make panels that are lower, but not more.
size_t packed_a_capacity(int64_t rows, int64_t depth) {
  return static_cast<size_t>(divide_up(rows, kTileRows) * a_panel_stride(kTileRows, depth));
}

// Rows [row, row + rows) of op(a) in panels of tile_height(rows), the last one narrower.
void pack_a(const Product& p, int64_t row, int64_t rows, int64_t k0, int64_t depth, float* out) {
  const int64_t height = tile_height(rows), stride = a_panel_stride(height, depth);
  if (p.transpose_a) {
    pack_interleaved_vectors<1>(p.a, row, rows, p.m - row, k0, depth, height, false, stride, out);
    return;
  }
  for (int64_t i = 0; i < rows; i += height, out += stride) {
    const int64_t count = std::min(height, rows - i);
    pack_contiguous_vectors(p.a, row + i, count, k0, depth, count, out);
  }
}

// c = keep * c + scale * tile. Not reading c when keep is 0 lets it be uninitialized.
void add_tile(const Product& p, const float* tile, int64_t row, int64_t rows, int64_t column, int64_t columns,
              float keep, float scale) {
  const Vector keep_all = Vector::all(keep), scale_all = Vector::all(scale);
  for (int64_t r = 0; r < rows; ++r) {
    float* c = p.c + p.c_row(row + r) + column;
    for_each_vector(columns, [&](int64_t i, int64_t lanes) {
      Vector sum = Vector::load(tile + r * kTileColumns + i) * scale_all;
      if (keep != 0.0f) sum = multiply_add(keep_all, Vector::load(c + i, lanes), sum);
      sum.store(c + i, lanes);
    });
  }
}

// Puts one depth block's sums into c. An epilogue that only scales is applied block by block; for any other, c holds
// the partial sums until the last block.
void store_tile(const Product& p, float* tile, int64_t row, int64_t rows, int64_t column, int64_t columns,
                bool first_block, bool last_block) {
  if (p.only_scales) {
    return add_tile(p, tile, row, rows, column, columns, first_block ? p.beta : 1.0f, p.epilogue->scale);
  }
  if (!last_block) return add_tile(p, tile, row, rows, column, columns, first_block ? 0.0f : 1.0f, 1.0f);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = p.c_row(row + r) + column;
    float* sums = tile + r * kTileColumns;
    if (!first_block) {
      for_each_vector(columns, [&](int64_t i, int64_t lanes) {
        (Vector::load(p.c + at + i, lanes) + Vector::load(sums + i)).store(sums + i);
      });
    }
    finish_row(sums, columns, row + r, column, p.n, at, p.c, *p.epilogue);
  }
}

// Brings the tile's part of c closer while the sums are being made.
void prefetch_tile(const Product& p, int64_t row, int64_t rows, int64_t column) {
  for (int64_t r = 0; r < rows; ++r) {
    const char* line = reinterpret_cast<const char*>(p.c + p.c_row(row + r) + column);
    _mm_prefetch(line, _MM_HINT_T0);
    _mm_prefetch(line + kTileColumns * sizeof(float) - 1, _MM_HINT_T0);
  }
}

}  // namespace
}  // namespace usmlite::cpu::USMLITE_ISA
