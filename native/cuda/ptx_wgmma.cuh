// Warpgroup-wide asynchronous matrix products, d += a . b over 64 rows and N columns, sm_90a. Device side of ptx.cuh.
//
// 128 consecutive threads (starting at a multiple of 128) take part; warp w of them holds rows 16 w..16 w + 15.
//   d: d[4 j + i] of lane 4 g + t: row 16 w + g + 8 (i / 2), column 8 j + 2 t + i % 2
//   a in registers: per warp as in ptx_mma.cuh, dense and sparse, metadata too (PTX ISA, "Register fragments" of wgmma)
//   a, b in shared memory: matrix descriptors; rows (of a) or columns (of b) of k values each, "K-major", or, of 16-bit values, k rows of
//     values of all rows (of a) or columns (of b), "MN-major"
// Products run from wgmma_commit on. Registers of a and d may be read or written only after wgmma_wait has seen their
// group end; wgmma_fence comes before the first product after they were written.
#pragma once

namespace usmlite::cuda::ptx {

#if USMLITE_SM90A

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Waits until at most `Pending` groups are under way.
template <int Pending> __device__ __forceinline__ void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory"); }
/// Tells the compiler that asynchronous products change `value` here.
__device__ __forceinline__ void wgmma_touch(float& value) { asm volatile("" : "+f"(value)::"memory"); }
__device__ __forceinline__ void wgmma_touch(int32_t& value) { asm volatile("" : "+r"(value)::"memory"); }
__device__ __forceinline__ void wgmma_touch(uint32_t& value) { asm volatile("" : "+r"(value)::"memory"); }

/// Gives registers beyond `Count` back, or takes up to `Count`; by all warps of a warpgroup.
template <int Count> __device__ __forceinline__ void registers_release() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count)); }
template <int Count> __device__ __forceinline__ void registers_acquire() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count)); }

/// The descriptor of rows of 128 bytes in shared memory, swizzled in units of 16 bytes as the copy engine writes them
/// (bits 4..6 of the address are xored with bits 7..9); eight rows follow each other in 1,024 aligned bytes. Adding
/// `bytes / 16` to a descriptor moves it along the row.
__device__ __forceinline__ uint64_t swizzled_descriptor(const void* tile) {
  return (uint64_t{1} << 62) | (uint64_t{1024 >> 4} << 32) | (uint64_t{1} << 16) | ((shared_address(tile) & 0x3ffff) >> 4);
}

/// The descriptor of an MN-major operand (PTX ISA, "Strides" of the shared memory layout of wgmma; canonical layout
/// Swizzle<3,4,3> o ((T,8,m),(8,k)):((1,T,LBO),(8T,SBO)) with T = 8 values): 64 rows or columns of 16-bit values lie in the 128 bytes of each
/// of k lines, swizzled as above; eight lines follow each other in 1,024 aligned bytes, and `block_bytes` further on are the next 64 rows or
/// columns of the same lines. Adding `128 / 16` times a multiple of 8 moves it along k.
__device__ __forceinline__ uint64_t transposed_descriptor(const void* tile, int block_bytes) {
  return (uint64_t{1} << 62) | (uint64_t{1024 >> 4} << 32) | (static_cast<uint64_t>(block_bytes >> 4) << 16) |
         ((shared_address(tile) & 0x3ffff) >> 4);
}

/// d (+)= a . b. `accumulate` false: d is overwritten.
///   Wgmma<T, N>::dense(d, a[4], b_descriptor, accumulate)                              k = 16 (16-bit T), 32 (8-bit T)
///   Wgmma<T, N>::dense<TransposedA, TransposedB>(d, a_descriptor, b_descriptor, accumulate)   transposed: MN-major
///   Wgmma<T, N>::template sparse<Selector>(d, a[4], b_descriptor, metadata, accumulate)  k = 32 (16-bit T), 64 (8-bit T)
/// d is float[N / 2], or int32_t[N / 2] for Int8.
template <typename T, int N> struct Wgmma;
template <typename T> inline constexpr bool kTakesTransposed = false;
template <> inline constexpr bool kTakesTransposed<BFloat16> = true;
template <> inline constexpr bool kTakesTransposed<Float16> = true;
#define USMLITE_REGISTERS_16 \
  "%0, %1, %2, %3, %4, %5, %6, %7"
#define USMLITE_OPERANDS_16(C) \
  C(d[0]), C(d[1]), C(d[2]), C(d[3]), C(d[4]), C(d[5]), C(d[6]), C(d[7])
#define USMLITE_REGISTERS_32 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define USMLITE_OPERANDS_32(C) \
  C(d[0]), C(d[1]), C(d[2]), C(d[3]), C(d[4]), C(d[5]), C(d[6]), C(d[7]), \
  C(d[8]), C(d[9]), C(d[10]), C(d[11]), C(d[12]), C(d[13]), C(d[14]), C(d[15])
#define USMLITE_REGISTERS_64 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define USMLITE_OPERANDS_64(C) \
  C(d[0]), C(d[1]), C(d[2]), C(d[3]), C(d[4]), C(d[5]), C(d[6]), C(d[7]), \
  C(d[8]), C(d[9]), C(d[10]), C(d[11]), C(d[12]), C(d[13]), C(d[14]), C(d[15]), \
  C(d[16]), C(d[17]), C(d[18]), C(d[19]), C(d[20]), C(d[21]), C(d[22]), C(d[23]), \
  C(d[24]), C(d[25]), C(d[26]), C(d[27]), C(d[28]), C(d[29]), C(d[30]), C(d[31])
#define USMLITE_REGISTERS_128 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define USMLITE_OPERANDS_128(C) \
  C(d[0]), C(d[1]), C(d[2]), C(d[3]), C(d[4]), C(d[5]), C(d[6]), C(d[7]), \
  C(d[8]), C(d[9]), C(d[10]), C(d[11]), C(d[12]), C(d[13]), C(d[14]), C(d[15]), \
  C(d[16]), C(d[17]), C(d[18]), C(d[19]), C(d[20]), C(d[21]), C(d[22]), C(d[23]), \
  C(d[24]), C(d[25]), C(d[26]), C(d[27]), C(d[28]), C(d[29]), C(d[30]), C(d[31]), \
  C(d[32]), C(d[33]), C(d[34]), C(d[35]), C(d[36]), C(d[37]), C(d[38]), C(d[39]), \
  C(d[40]), C(d[41]), C(d[42]), C(d[43]), C(d[44]), C(d[45]), C(d[46]), C(d[47]), \
  C(d[48]), C(d[49]), C(d[50]), C(d[51]), C(d[52]), C(d[53]), C(d[54]), C(d[55]), \
  C(d[56]), C(d[57]), C(d[58]), C(d[59]), C(d[60]), C(d[61]), C(d[62]), C(d[63])
#define USMLITE_REGISTERS_256 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define USMLITE_OPERANDS_256(C) \
  C(d[0]), C(d[1]), C(d[2]), C(d[3]), C(d[4]), C(d[5]), C(d[6]), C(d[7]), \
  C(d[8]), C(d[9]), C(d[10]), C(d[11]), C(d[12]), C(d[13]), C(d[14]), C(d[15]), \
  C(d[16]), C(d[17]), C(d[18]), C(d[19]), C(d[20]), C(d[21]), C(d[22]), C(d[23]), \
  C(d[24]), C(d[25]), C(d[26]), C(d[27]), C(d[28]), C(d[29]), C(d[30]), C(d[31]), \
  C(d[32]), C(d[33]), C(d[34]), C(d[35]), C(d[36]), C(d[37]), C(d[38]), C(d[39]), \
  C(d[40]), C(d[41]), C(d[42]), C(d[43]), C(d[44]), C(d[45]), C(d[46]), C(d[47]), \
  C(d[48]), C(d[49]), C(d[50]), C(d[51]), C(d[52]), C(d[53]), C(d[54]), C(d[55]), \
  C(d[56]), C(d[57]), C(d[58]), C(d[59]), C(d[60]), C(d[61]), C(d[62]), C(d[63]), \
  C(d[64]), C(d[65]), C(d[66]), C(d[67]), C(d[68]), C(d[69]), C(d[70]), C(d[71]), \
  C(d[72]), C(d[73]), C(d[74]), C(d[75]), C(d[76]), C(d[77]), C(d[78]), C(d[79]), \
  C(d[80]), C(d[81]), C(d[82]), C(d[83]), C(d[84]), C(d[85]), C(d[86]), C(d[87]), \
  C(d[88]), C(d[89]), C(d[90]), C(d[91]), C(d[92]), C(d[93]), C(d[94]), C(d[95]), \
  C(d[96]), C(d[97]), C(d[98]), C(d[99]), C(d[100]), C(d[101]), C(d[102]), C(d[103]), \
  C(d[104]), C(d[105]), C(d[106]), C(d[107]), C(d[108]), C(d[109]), C(d[110]), C(d[111]), \
  C(d[112]), C(d[113]), C(d[114]), C(d[115]), C(d[116]), C(d[117]), C(d[118]), C(d[119]), \
  C(d[120]), C(d[121]), C(d[122]), C(d[123]), C(d[124]), C(d[125]), C(d[126]), C(d[127])


// O0...: numbers of the operands after d, written out because the preprocessor cannot add.
#define USMLITE_WGMMA(TYPE, D, C, N, O0, O1, O2, O3, O4, O5, O6, O7, DENSE, SPARSE, RS_END, SS_END)                      \
  template <> struct Wgmma<TYPE, N> {                                                                                  \
    static __device__ __forceinline__ void dense(D (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) { \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, %" #O5 ", 0; wgmma.mma_async.sync.aligned.m64n" #N DENSE " {"       \
                   USMLITE_REGISTERS_##N "}, {%" #O0 ", %" #O1 ", %" #O2 ", %" #O3 "}, %" #O4 ", p" RS_END "; }"       \
                   : USMLITE_OPERANDS_##N(C)                                                                           \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)));           \
    }                                                                                                                  \
    template <bool TransposedA = false, bool TransposedB = false>                                                      \
    static __device__ __forceinline__ void dense(D (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate) {             \
      static_assert(kTakesTransposed<TYPE> || !(TransposedA || TransposedB), "8-bit operands are K-major");             \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, %" #O2 ", 0; wgmma.mma_async.sync.aligned.m64n" #N DENSE " {"       \
                   USMLITE_REGISTERS_##N "}, %" #O0 ", %" #O1 ", p" SS_END(O3, O4) "; }"                               \
                   : USMLITE_OPERANDS_##N(C)                                                                           \
                   : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(TransposedA)),            \
                     "n"(static_cast<int>(TransposedB)));                                                              \
    }                                                                                                                  \
    template <int Selector>                                                                                            \
    static __device__ __forceinline__ void sparse(D (&d)[N / 2], const uint32_t (&a)[4], uint64_t b,                   \
                                                  uint32_t metadata, bool accumulate) {                                \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, %" #O6 ", 0; wgmma.mma_async.sp.sync.aligned.m64n" #N SPARSE " {"   \
                   USMLITE_REGISTERS_##N "}, {%" #O0 ", %" #O1 ", %" #O2 ", %" #O3 "}, %" #O4 ", %" #O5 ", %" #O7      \
                   ", p" RS_END "; }"                                                                                  \
                   : USMLITE_OPERANDS_##N(C)                                                                           \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(metadata),                                \
                     "r"(static_cast<int>(accumulate)), "n"(Selector));                                                \
    }                                                                                                                  \
  };
// What follows the operands: whether they are negated and, of 16-bit values, transposed.
#define USMLITE_EITHER_ORDER(a, b) ", 1, 1, %" #a ", %" #b
#define USMLITE_SIGNS_ONLY(a, b) ", 1, 1"
#define USMLITE_NOTHING(a, b) ""
#define USMLITE_FLOAT(x) "+f"(x)
#define USMLITE_INTEGER(x) "+r"(x)
#define USMLITE_WGMMA_TYPES(N, ...)                                                                                    \
  USMLITE_WGMMA(BFloat16, float, USMLITE_FLOAT, N, __VA_ARGS__, "k16.f32.bf16.bf16", "k32.f32.bf16.bf16", ", 1, 1, 0", USMLITE_EITHER_ORDER) \
  USMLITE_WGMMA(Float16, float, USMLITE_FLOAT, N, __VA_ARGS__, "k16.f32.f16.f16", "k32.f32.f16.f16", ", 1, 1, 0", USMLITE_EITHER_ORDER)      \
  USMLITE_WGMMA(Float8E4M3, float, USMLITE_FLOAT, N, __VA_ARGS__, "k32.f32.e4m3.e4m3", "k64.f32.e4m3.e4m3", ", 1, 1", USMLITE_SIGNS_ONLY)        \
  USMLITE_WGMMA(Int8, int32_t, USMLITE_INTEGER, N, __VA_ARGS__, "k32.s32.s8.s8", "k64.s32.s8.s8", "", USMLITE_NOTHING)
USMLITE_WGMMA_TYPES(16, 8, 9, 10, 11, 12, 13, 14, 15)
USMLITE_WGMMA_TYPES(32, 16, 17, 18, 19, 20, 21, 22, 23)
USMLITE_WGMMA_TYPES(64, 32, 33, 34, 35, 36, 37, 38, 39)
USMLITE_WGMMA_TYPES(128, 64, 65, 66, 67, 68, 69, 70, 71)
USMLITE_WGMMA_TYPES(256, 128, 129, 130, 131, 132, 133, 134, 135)
#undef USMLITE_WGMMA_TYPES
#undef USMLITE_WGMMA
#undef USMLITE_INTEGER
#undef USMLITE_FLOAT
#undef USMLITE_NOTHING
#undef USMLITE_SIGNS_ONLY
#undef USMLITE_EITHER_ORDER

#endif  // USMLITE_SM90A

}  // namespace usmlite::cuda::ptx
