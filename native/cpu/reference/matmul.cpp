#include "cpu/matmul.hpp"

#include "cpu/reference/matmul_finish.hpp"

namespace usmlite::cpu::reference {

void matmul(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
            const float* b, int64_t ldb, float beta, float* c, int64_t ldc, const MatmulEpilogue& epilogue,
            const MatmulRows& rows) {
  const auto a_row = [&](int64_t i) { return a + (rows.a ? rows.a[i] : i * lda); };
  const auto b_row = [&](int64_t i) { return b + (rows.b ? rows.b[i] : i * ldb); };
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t column = 0; column < n; ++column) {
      float sum = 0.0f;
      for (int64_t i = 0; i < k; ++i) {
        sum += (transpose_a ? a_row(i)[row] : a_row(row)[i]) * (transpose_b ? b_row(column)[i] : b_row(i)[column]);
      }
      const int64_t at = (rows.c ? rows.c[row] : row * ldc) + column;
      const float result = finish(sum, at, row, column, n, epilogue);
      c[at] = beta == 0.0f ? result : beta * c[at] + result;
    }
  }
}

void matmul_prepacked(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, float* c, int64_t ldc,
                      const MatmulEpilogue& epilogue, const MatmulRows& rows) {
  for (int64_t row = 0; row < m; ++row) {
    const float* inputs = a + (rows.a ? rows.a[row] : row * lda);
    for (int64_t column = 0; column < n; ++column) {
      const float* panel = b + column / kPrepackedColumns * kPrepackedColumns * k + column % kPrepackedColumns;
      float sum = 0.0f;
      for (int64_t i = 0; i < k; ++i) sum += inputs[i] * panel[i * kPrepackedColumns];
      const int64_t at = (rows.c ? rows.c[row] : row * ldc) + column;
      c[at] = finish(sum, at, row, column, n, epilogue);
    }
  }
}

}  // namespace usmlite::cpu::reference
