// Blocked matrix product after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008):
// panels of b stay in the first-level cache, a block of a in the second, while a register tile of c accumulates.
#include "cpu/matmul.hpp"

#include <algorithm>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/matmul_tile.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// Rows [row, row + rows) by one panel of columns, over one depth block.
void multiply_panel(const Product& p, int64_t row, int64_t rows, int64_t column, int64_t k0, int64_t depth,
                    const float* packed_a, const float* packed_b) {
  alignas(64) float tile[kTileRows * kTileColumns];
  const int64_t height = tile_height(rows), columns = std::min(kTileColumns, p.n - column);
  for (int64_t i = 0; i < rows; i += height, packed_a += a_panel_stride(height, depth)) {
    const int64_t tile_rows = std::min(height, rows - i);
    prefetch_tile(p, row + i, tile_rows, column);
    multiply_tile(tile_rows, depth, packed_a, packed_b, p.b_step(), tile);
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
        const int64_t column = packed.begin + panel * kTileColumns;
        const float* b = p.prepacked ? b_panel(p, column, k0, depth, nullptr) : packed.panel(panel, k0, depth);
        multiply_panel(p, row, rows, column, k0, depth, packed_a.data(), b);
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
          multiply_tile(p.m, depth, packed_a.data(), packed_b.data(), kTileColumns, tile);
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
        const float* b = b_panel(p, column, k0, depth, packed_b.data());
        multiply_panel(p, 0, p.m, column, k0, depth, packed_a.data() + k0 / block * a_stride, b);
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
        const float* b = b_panel(p, column, k0, depth, packed_b.data());
        multiply_panel(p, 0, p.m, column, k0, depth, packed_a.data(), b);
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

// Shares out the rows by `packed`.
void multiply_row_parts(const Product& p, const PackedB& packed) {
  const int64_t tiles = divide_up(p.m, kTileRows), parts = row_parts(p.m);
  parallel_dynamic(parts, [&](int64_t part) {
    const int64_t first = tiles * part / parts * kTileRows, last = tiles * (part + 1) / parts * kTileRows;
    multiply_block(p, first, std::min(last, p.m), packed);
  });
}

// Many rows: threads pack a part of b together, then share out the rows.
void multiply_by_rows(const Product& p) {
  if (p.prepacked) return multiply_row_parts(p, {0, p.n, 0, p.k, nullptr});
  const int64_t block = depth_block(p.k);
  const int64_t width = std::min(divide_up(p.n, kTileColumns) * kTileColumns, kPackedColumns);
  const int64_t span = std::max(kPackedElements / width / block, int64_t{1}) * block;
  Scratch<float> data(static_cast<size_t>(width * std::min(span, p.k)));
  for (int64_t begin = 0; begin < p.n; begin += width) {
    for (int64_t k_begin = 0; k_begin < p.k; k_begin += span) {
      const PackedB packed{begin, std::min(begin + width, p.n), k_begin, std::min(k_begin + span, p.k), data.data()};
      parallel_for(packed.panels(), 1, [&](int64_t first, int64_t last) { pack_b(p, packed, first, last); });
      multiply_row_parts(p, packed);
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

void multiply(const Product& p) {
  if (p.k <= 0) finish_empty_sums(p);
  else if (p.m * p.k <= kFewElements && p.m < kRowsPerThread) multiply_few_rows(p);
  else if (p.m < kRowsPerThread * thread_count()) multiply_by_columns(p);
  else multiply_by_rows(p);
}

}  // namespace

void matmul(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
            const float* b, int64_t ldb, float beta, float* c, int64_t ldc, const MatmulEpilogue& epilogue,
            const MatmulRows& rows) {
  if (m <= 0 || n <= 0) return;
  const Product p{transpose_a,     transpose_b, m,   n,      k,         {a, lda, rows.a},
                  {b, ldb, rows.b}, beta,        c,   ldc,    rows.c,    &epilogue,
                  only_scales(epilogue)};
#if defined(__AVX512F__)
  if (k > 0 && transpose_b && !transpose_a && !rows.b && m <= kTransposedRows) return multiply_by_transposed_columns(p);
#endif
  multiply(p);
}

void matmul_prepacked(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, float* c, int64_t ldc,
                      const MatmulEpilogue& epilogue, const MatmulRows& rows) {
  if (m <= 0 || n <= 0) return;
  multiply({false, true, m, n, k, {a, lda, rows.a}, {nullptr, 0, nullptr}, 0.0f, c, ldc, rows.c, &epilogue, only_scales(epilogue), b});
}

}  // namespace usmlite::cpu::USMLITE_ISA
