// Blocked: a block on the diagonal is decomposed in double precision, everything else is matrix products.
#include "cpu/inverse_factor.hpp"

#include <algorithm>
#include <cmath>

#include "core/allocator.hpp"
#include "cpu/matmul.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kDiagonalBlock = 64;  // rows of a block on the diagonal
constexpr int64_t kStrip = 256;         // rows that are updated at once: what lies left of the diagonal in them is wasted work

// inverse = R^-1 (upper triangular, zeros below, rows `stride` apart) of block = R Rᵀ (its upper triangle is read).
// False where `block` is not positive definite.
bool invert_diagonal_block(const float* block, int64_t stride, int64_t size, float* inverse) {
  double r[kDiagonalBlock][kDiagonalBlock], u[kDiagonalBlock][kDiagonalBlock];
  for (int64_t j = size - 1; j >= 0; --j) {
    for (int64_t i = j; i >= 0; --i) {
      double sum = block[i * stride + j];
      for (int64_t k = j + 1; k < size; ++k) sum -= r[i][k] * r[j][k];
      if (i == j && !(sum > 0.0)) return false;
      r[i][j] = i == j ? std::sqrt(sum) : sum / r[j][j];
    }
  }
  for (int64_t j = 0; j < size; ++j) {
    for (int64_t i = j; i >= 0; --i) {
      double sum = i == j ? 1.0 : 0.0;
      for (int64_t k = i + 1; k <= j; ++k) sum -= r[i][k] * u[k][j];
      u[i][j] = sum / r[i][i];
      inverse[i * stride + j] = static_cast<float>(u[i][j]);
    }
  }
  return true;
}

MatmulEpilogue negated() {
  MatmulEpilogue epilogue;
  epilogue.scale = -1.0f;
  return epilogue;
}

}  // namespace

bool inverse_factor(const float* moments, int64_t size, float damping, float* factor) {
  const int64_t n = size, last = (n - 1) / kDiagonalBlock * kDiagonalBlock;
  const float added = damping_of(moments, n, damping);
  Scratch<float> matrix(n * n), strip(n * kDiagonalBlock);
  float *const a = matrix.data(), *const panel = strip.data();
  std::copy_n(moments, n * n, a);
  for (int64_t i = 0; i < n; ++i) a[i * n + i] += added;
  std::fill_n(factor, n * n, 0.0f);

  // The upper triangle of a becomes R, the diagonal blocks of the factor their inverses.
  for (int64_t s = last; s >= 0; s -= kDiagonalBlock) {
    const int64_t m = std::min(kDiagonalBlock, n - s);
    float* const inverse = factor + s * n + s;
    if (!invert_diagonal_block(a + s * n + s, n, m, inverse)) return false;
    if (s == 0) break;
    matmul(false, true, s, m, m, a + s, n, inverse, n, 0.0f, panel, m);
    for (int64_t i = 0; i < s; ++i) std::copy_n(panel + i * m, m, a + i * n + s);
    for (int64_t i = 0; i < s; i += kStrip) {
      matmul(false, true, std::min(kStrip, s - i), s - i, m, panel + i * m, m, panel + i * m, m, 1.0f, a + i * n + i, n,
             negated());
    }
  }
  // Rows of R^-1 from the last block upwards: U_ab = -R_aa^-1 sum over c > a of R_ac U_cb.
  for (int64_t s = last - kDiagonalBlock; s >= 0; s -= kDiagonalBlock) {
    const int64_t e = s + kDiagonalBlock, rest = n - e;
    matmul(false, false, kDiagonalBlock, rest, rest, a + s * n + e, n, factor + e * n + e, n, 0.0f, panel, rest);
    matmul(false, false, kDiagonalBlock, rest, kDiagonalBlock, factor + s * n + s, n, panel, rest, 0.0f, factor + s * n + e, n, negated());
  }
  return true;
}

}  // namespace usmlite::cpu::USMLITE_ISA
