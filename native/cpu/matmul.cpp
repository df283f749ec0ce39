// Blocked matrix product after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008):
// panels of b stay in the first-level cache, a block of a in the second, while a register tile of c accumulates.
#include "cpu/matmul.hpp"

#include <algorithm>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
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
// Multiply-adds below which waking a thread costs more than it saves.
constexpr int64_t kWorkPerThread = 1 << 17;

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

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

  int64_t c_row(int64_t row) const { return c_starts ? c_starts[row] : row * ldc; }
};

// tile (Rows, kTileColumns) = a panel (Rows) . b panel, over `depth` >= 1. Kept out of line: inlined into loops that need
// registers themselves, the compiler keeps some of the sums in memory.
template <int64_t Rows>
[[gnu::noinline]] void multiply_tile(int64_t depth, const float* a, const float* b, float* tile) {
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
    b += kTileColumns;
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
void multiply_tile(int64_t rows, int64_t depth, const float* a, const float* b, float* tile) {
  if constexpr (Rows > 1) {
    if (rows < Rows) return multiply_tile<Rows - 1>(rows, depth, a, b, tile);
  }
  multiply_tile<Rows>(depth, a, b, tile);
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

// c = keep * c + scale * tile. Not reading c when keep is 0 lets it be uninitialised.
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

// Rows [row, row + rows) by one panel of columns, over one depth block.
void multiply_panel(const Product& p, int64_t row, int64_t rows, int64_t column, int64_t k0, int64_t depth,
                    const float* packed_a, const float* packed_b) {
  alignas(64) float tile[kTileRows * kTileColumns];
  const int64_t height = tile_height(rows), columns = std::min(kTileColumns, p.n - column);
  for (int64_t i = 0; i < rows; i += height, packed_a += a_panel_stride(height, depth)) {
    const int64_t tile_rows = std::min(height, rows - i);
    prefetch_tile(p, row + i, tile_rows, column);
    multiply_tile(tile_rows, depth, packed_a, packed_b, tile);
    store_tile(p, tile, row + i, tile_rows, column, columns, k0 == 0, k0 + depth == p.k);
  }
}

// Rows [first, last) by the columns and the depth of `packed`.
void multiply_block(const Product& p, int64_t first, int64_t last, const PackedB& packed) {
  const int64_t block = depth_block(p.k);
  Scratch<float> packed_a(packed_a_capacity(std::min(kRows, last - first), block));
  // Blocks of rows of nearly equal height, whole tiles.
  const int64_t step = divide_up(divide_up(last - first, divide_up(last - first, kRows)), kTileRows) * kTileRows;
  for (int64_t k0 = packed.k_begin; k0 < packed.k_end; k0 += block) {
    const int64_t depth = std::min(block, packed.k_end - k0);
    for (int64_t row = first; row < last; row += step) {
      const int64_t rows = std::min(step, last - row);
      pack_a(p, row, rows, k0, depth, packed_a.data());
      for (int64_t panel = 0; panel < packed.panels(); ++panel) {
        multiply_panel(p, row, rows, packed.begin + panel * kTileColumns, k0, depth, packed_a.data(),
                       packed.panel(panel, k0, depth));
      }
    }
  }
}

#if defined(__AVX512F__)
// tile (Rows, kTileColumns) = rows of a . columns of b stored as rows, over one depth block: columns are transposed in
// registers and used there, because writing them to a panel would cost more than multiplying by so few rows.
template <int64_t Rows>
[[gnu::noinline]] void multiply_transposed(const float* b, int64_t ldb, const float* const* a, int64_t depth, float* tile) {
  constexpr int64_t kGroups = kTileColumns / 16;
  Vector sum[Rows][kGroups];
#pragma GCC unroll 4
  for (int64_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
    for (int64_t group = 0; group < kGroups; ++group) sum[r][group] = Vector::all(-0.0f);  // adding to it changes nothing
  }
  int64_t k = 0;
  for (; k + 16 <= depth; k += 16) {
#pragma GCC unroll 2
    for (int64_t group = 0; group < kGroups; ++group) {
      const float* from = b + group * 16 * ldb + k;
      Vector columns[16];
      prefetch_rows(from, ldb);
      transpose_16x16(from, ldb, columns);
#pragma GCC unroll 16
      for (int64_t i = 0; i < 16; ++i) {
#pragma GCC unroll 4
        for (int64_t r = 0; r < Rows; ++r) sum[r][group] = multiply_add(Vector::all(a[r][k + i]), columns[i], sum[r][group]);
      }
    }
  }
  for (; k < depth; ++k) {
    for (int64_t group = 0; group < kGroups; ++group) {
      alignas(64) float column[16];
      for (int64_t i = 0; i < 16; ++i) column[i] = b[(group * 16 + i) * ldb + k];
      for (int64_t r = 0; r < Rows; ++r) sum[r][group] = multiply_add(Vector::all(a[r][k]), Vector::load(column), sum[r][group]);
    }
  }
#pragma GCC unroll 4
  for (int64_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
    for (int64_t group = 0; group < kGroups; ++group) sum[r][group].store(tile + r * kTileColumns + group * 16);
  }
}

constexpr int64_t kTransposedRows = 4;

template <int64_t Rows = kTransposedRows>
void multiply_transposed(int64_t rows, const Product& p, int64_t column, int64_t k0, int64_t depth, float* tile) {
  if constexpr (Rows > 1) {
    if (rows < Rows) return multiply_transposed<Rows - 1>(rows, p, column, k0, depth, tile);
  }
  const float* a[Rows];
  for (int64_t r = 0; r < Rows; ++r) a[r] = p.a[r] + k0;
  multiply_transposed<Rows>(p.b[column] + k0, p.b.stride, a, depth, tile);
}

// Up to kTransposedRows rows, neither factor packed.
void multiply_by_transposed_columns(const Product& p) {
  const int64_t block = depth_block(p.k), panels = divide_up(p.n, kTileColumns);
  const int64_t parts = std::min(divide_up(panels, divide_up(kWorkPerThread, p.m * p.k * kTileColumns)), 2 * kTurns * thread_count());
  parallel_dynamic(parts, [&](int64_t part) {
    alignas(64) float tile[kTransposedRows * kTileColumns];
    Scratch<float> packed_a(packed_a_capacity(p.m, block)), packed_b(static_cast<size_t>(kTileColumns * block));  // for the last
    for (int64_t panel = panels * part / parts; panel < panels * (part + 1) / parts; ++panel) {
      const int64_t column = panel * kTileColumns, columns = std::min(kTileColumns, p.n - column);
      for (int64_t k0 = 0; k0 < p.k; k0 += block) {
        const int64_t depth = std::min(block, p.k - k0);
        if (columns == kTileColumns) {
          multiply_transposed(p.m, p, column, k0, depth, tile);
        } else {
          pack_b_panels(p, column, columns, k0, depth, packed_b.data());
          pack_a(p, 0, p.m, k0, depth, packed_a.data());
          multiply_tile(p.m, depth, packed_a.data(), packed_b.data(), tile);
        }
        store_tile(p, tile, 0, p.m, column, columns, k0 == 0, k0 + depth == p.k);
      }
    }
  });
}
#endif

// So few rows that all of a, packed, takes part of a second-level cache: each panel of b is read along its whole depth, as
// memory likes it, and a block of it used as soon as it is packed.
void multiply_few_rows(const Product& p) {
  const int64_t block = depth_block(p.k), a_stride = static_cast<int64_t>(packed_a_capacity(p.m, block));
  const int64_t grain = divide_up(kWorkPerThread, p.m * p.k * kTileColumns);
  Scratch<float> packed_a(static_cast<size_t>(a_stride * divide_up(p.k, block)));
  for (int64_t k0 = 0; k0 < p.k; k0 += block) {
    pack_a(p, 0, p.m, k0, std::min(block, p.k - k0), packed_a.data() + k0 / block * a_stride);
  }
  const int64_t panels = divide_up(p.n, kTileColumns);
  const int64_t parts = std::min(divide_up(panels, grain), kTurns * thread_count());
  parallel_dynamic(parts, [&](int64_t part) {
    Scratch<float> packed_b(static_cast<size_t>(kTileColumns * block));
    for (int64_t panel = panels * part / parts; panel < panels * (part + 1) / parts; ++panel) {
      const int64_t column = panel * kTileColumns;
      for (int64_t k0 = 0; k0 < p.k; k0 += block) {
        const int64_t depth = std::min(block, p.k - k0);
        pack_b_panels(p, column, std::min(kTileColumns, p.n - column), k0, depth, packed_b.data());
        multiply_panel(p, 0, p.m, column, k0, depth, packed_a.data() + k0 / block * a_stride, packed_b.data());
      }
    }
  });
}

// Few rows: threads divide the columns. All rows fit in the second-level cache, so each panel of b is packed, used by
// all of them while it is in the first, and forgotten.
void multiply_by_columns(const Product& p) {
  const int64_t block = depth_block(p.k);
  const int64_t grain = divide_up(kWorkPerThread, p.m * p.k * kTileColumns);
  parallel_for(divide_up(p.n, kTileColumns), grain, [&](int64_t first, int64_t last) {
    Scratch<float> packed_a(packed_a_capacity(p.m, block));
    Scratch<float> packed_b(static_cast<size_t>(kTileColumns * block));
    for (int64_t k0 = 0; k0 < p.k; k0 += block) {
      const int64_t depth = std::min(block, p.k - k0);
      pack_a(p, 0, p.m, k0, depth, packed_a.data());
      for (int64_t column = first * kTileColumns; column < std::min(last * kTileColumns, p.n); column += kTileColumns) {
        pack_b_panels(p, column, std::min(kTileColumns, p.n - column), k0, depth, packed_b.data());
        multiply_panel(p, 0, p.m, column, k0, depth, packed_a.data(), packed_b.data());
      }
    }
  });
}

// Parts that the rows are divided into. Each thread takes several in turn, so that one that is held up by another program
// does not hold up all, but none so small that reading packed b for it is not worth while.
int64_t row_parts(int64_t m) {
  const int64_t threads = thread_count();
  if (threads == 1) return 1;
  return std::max(std::min(kTurns, m / (threads * kRowsPerThread)), int64_t{1}) * threads;
}

// Many rows: threads pack a part of b together, then share out the rows.
void multiply_by_rows(const Product& p) {
  const int64_t block = depth_block(p.k), tiles = divide_up(p.m, kTileRows), parts = row_parts(p.m);
  const int64_t width = std::min(divide_up(p.n, kTileColumns) * kTileColumns, kPackedColumns);
  const int64_t span = std::max(kPackedElements / width / block, int64_t{1}) * block;
  Scratch<float> data(static_cast<size_t>(width * std::min(span, p.k)));
  for (int64_t begin = 0; begin < p.n; begin += width) {
    for (int64_t k_begin = 0; k_begin < p.k; k_begin += span) {
      const PackedB packed{begin, std::min(begin + width, p.n), k_begin, std::min(k_begin + span, p.k), data.data()};
      parallel_for(packed.panels(), 1, [&](int64_t first, int64_t last) { pack_b(p, packed, first, last); });
      parallel_dynamic(parts, [&](int64_t part) {
        const int64_t first = tiles * part / parts * kTileRows, last = tiles * (part + 1) / parts * kTileRows;
        multiply_block(p, first, std::min(last, p.m), packed);
      });
    }
  }
}

bool only_scales(const MatmulEpilogue& epilogue) {
  return !epilogue.bias && epilogue.activation == Activation::kNone && !epilogue.pre_activation &&
         !epilogue.dropout.active() && !epilogue.residual;
}

// A sum over no elements is zero.
void finish_empty_sums(const Product& p) {
  alignas(64) float zeros[kTileRows * kTileColumns];
  for (int64_t row = 0; row < p.m; ++row) {
    for (int64_t column = 0; column < p.n; column += kTileColumns) {
      std::fill_n(zeros, kTileColumns, 0.0f);
      store_tile(p, zeros, row, 1, column, std::min(kTileColumns, p.n - column), true, true);
    }
  }
}

}  // namespace

void matmul(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
            const float* b, int64_t ldb, float beta, float* c, int64_t ldc, const MatmulEpilogue& epilogue,
            const MatmulRows& rows) {
  if (m <= 0 || n <= 0) return;
  const Product p{transpose_a,     transpose_b, m,   n,      k,         {a, lda, rows.a},
                  {b, ldb, rows.b}, beta,        c,   ldc,    rows.c,    &epilogue,
                  only_scales(epilogue)};
  if (k <= 0) finish_empty_sums(p);
#if defined(__AVX512F__)
  else if (transpose_b && !transpose_a && !rows.b && m <= kTransposedRows) multiply_by_transposed_columns(p);
#endif
  else if (m * k <= kFewElements && m < kRowsPerThread) multiply_few_rows(p);
  else if (m < kRowsPerThread * thread_count()) multiply_by_columns(p);
  else multiply_by_rows(p);
}

}  // namespace usmlite::cpu::USMLITE_ISA
