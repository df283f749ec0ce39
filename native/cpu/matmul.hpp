// Dense float32 matrix product.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"
#include "cpu/matmul_epilogue.hpp"

namespace usmlite::cpu {

/// Where the stored rows of a, b and c begin, in elements, when they are not `ld` apart: convolutions over a batch of
/// sequences. Rows of a and b may overlap, those of c must not. pre_activation and residual follow c.
struct MatmulRows {
  const int64_t* a = nullptr;
  const int64_t* b = nullptr;
  const int64_t* c = nullptr;
};

USMLITE_FOR_EACH_ISA(
  // c (m, n) = beta * c + epilogue(op(a) (m, k) . op(b) (k, n)), op transposing where asked: a is stored as (k, m) when
  // transpose_a, b as (n, k) when transpose_b. Rows of a stored matrix begin `ld` elements apart; lda < k is allowed,
  // so that overlapping windows of a signal are rows. beta must be 0 when the epilogue does more than scale.
  //
  // Every element is summed over k in the same order whatever m, n and the number of threads, so a row's result does
  // not depend on the other rows.
  void matmul(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
              const float* b, int64_t ldb, float beta, float* c, int64_t ldc, const MatmulEpilogue& epilogue = {},
              const MatmulRows& rows = {});

  // c (m, n) = epilogue(a (m, k) . bᵀ), b (n, k) in panels of kPrepackedColumns of its rows: (panels, k, kPrepackedColumns).
  // The same bits as matmul.
  void matmul_prepacked(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, float* c, int64_t ldc,
                        const MatmulEpilogue& epilogue = {}, const MatmulRows& rows = {});
)
USMLITE_DISPATCH(matmul)
USMLITE_DISPATCH(matmul_prepacked)

inline constexpr int64_t kPrepackedColumns = 32;

}  // namespace usmlite::cpu
