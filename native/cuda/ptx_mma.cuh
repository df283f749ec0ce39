// Warp-wide matrix products, d += a . b, sm_80 and later. Device side of ptx.cuh.
//
// Fragments, with g = lane / 4 and t = lane % 4 (PTX ISA, "Matrix fragments for mma.m16n8k16", "... k32", "mma.sp"):
//   d (16, 8)             d[i]: row g + 8 (i / 2), column 2 t + i % 2
//   16 bits, dense k = 16:  a[i] half h: row g + 8 (i % 2), column 2 t + h + 8 (i / 2);  b[i] half h: row 2 t + h + 8 i, column g
//   8 bits, dense k = 32:   a[i] byte j: row g + 8 (i % 2), column 4 t + j + 16 (i / 2); b[i] byte j: row 4 t + j + 16 i, column g
//   sparse: a holds the kept half of each row of k (32 or 64) columns in order, placed as the dense a of k / 2 columns;
//   b is dense: four registers, b[i] as above with i = 0..3.
//   metadata: four bits per group of four columns, the positions of its two kept values, lower position in the low bits.
//     16 bits, k = 32: lane t (+ 2 when Selector is 1) in {0, 1}: columns 16 t..16 t + 15, low half row g, high half row g + 8
//     8 bits, k = 64: lane t: row g + 8 (t % 2), columns 32 (t / 2)..32 (t / 2) + 31; Selector is 0
#pragma once

namespace usmlite::cuda::ptx {

template <typename T> __device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
template <typename T, int Selector>
__device__ __forceinline__ void mma_sparse(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4], uint32_t metadata);

#define USMLITE_MMA(TYPE, NAME)                                                                                        \
  template <> __device__ __forceinline__ void mma<TYPE>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { \
    asm volatile("mma.sync.aligned." NAME " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"            \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                      \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                  \
  }
#define USMLITE_MMA_SPARSE(TYPE, SELECTOR, NAME)                                                                        \
  template <> __device__ __forceinline__ void mma_sparse<TYPE, SELECTOR>(float (&d)[4], const uint32_t (&a)[4],        \
                                                                         const uint32_t (&b)[4], uint32_t metadata) {  \
    asm volatile("mma.sp::ordered_metadata.sync.aligned." NAME                                                         \
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, " #SELECTOR ";"      \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                      \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(metadata)); \
  }
USMLITE_MMA(BFloat16, "m16n8k16.row.col.f32.bf16.bf16.f32")
USMLITE_MMA(Float16, "m16n8k16.row.col.f32.f16.f16.f32")
USMLITE_MMA_SPARSE(BFloat16, 0, "m16n8k32.row.col.f32.bf16.bf16.f32")
USMLITE_MMA_SPARSE(BFloat16, 1, "m16n8k32.row.col.f32.bf16.bf16.f32")
USMLITE_MMA_SPARSE(Float16, 0, "m16n8k32.row.col.f32.f16.f16.f32")
USMLITE_MMA_SPARSE(Float16, 1, "m16n8k32.row.col.f32.f16.f16.f32")
#if __CUDA_ARCH__ >= 890
USMLITE_MMA(Float8E4M3, "m16n8k32.row.col.f32.e4m3.e4m3.f32")
USMLITE_MMA_SPARSE(Float8E4M3, 0, "m16n8k64.row.col.f32.e4m3.e4m3.f32")
#endif
#undef USMLITE_MMA
#undef USMLITE_MMA_SPARSE

/// Whole numbers, exact: k = 32.
__device__ __forceinline__ void mma_int8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// Whole numbers, exact: k = 64.
__device__ __forceinline__ void mma_sparse_int8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4], uint32_t metadata) {
  asm volatile("mma.sp::ordered_metadata.sync.aligned.m16n8k64.row.col.s32.s8.s8.s32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, 0;"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(metadata));
}

}  // namespace usmlite::cuda::ptx
