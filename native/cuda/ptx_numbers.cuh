// Arithmetic on packed numbers. A pair of 16-bit floats is a uint32_t, the first in the low half. Device side of ptx.cuh.
#pragma once

#include "cuda/kernel_language.cuh"

namespace usmlite::cuda::ptx {

/// Bitwise function of three words; bit (4 a + 2 b + c) of Table is the result for bits a, b, c.
template <int Table> __device__ __forceinline__ uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(d) : "r"(a), "r"(b), "r"(c), "n"(Table));
  return d;
}
/// Four bytes of the eight of (low, high), chosen by the low four nibbles of `selector`; bit 3 of a nibble copies its sign.
__device__ __forceinline__ uint32_t byte_permute(uint32_t low, uint32_t high, uint32_t selector) {
  uint32_t d;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(low), "r"(high), "r"(selector));
  return d;
}
/// Bits of `value` from `position` on (funnel shift), low word first.
__device__ __forceinline__ uint32_t funnel_shift_right(uint32_t low, uint32_t high, uint32_t shift) { return __funnelshift_r(low, high, shift); }

/// Arithmetic of one type, as instructions: nvcc takes seconds to read cuda_bf16.h and cuda_fp16.h in every kernel file.
template <typename T> struct Pair;
template <> struct Pair<BFloat16> {
  static __device__ __forceinline__ uint32_t fma(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
  }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  static __device__ __forceinline__ uint32_t multiply(uint32_t a, uint32_t b) {
    uint32_t d;
    asm("mul.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
  }
  static __device__ __forceinline__ uint32_t subtract(uint32_t a, uint32_t b) {
    uint32_t d;
    asm("sub.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
  }
#else
  static __device__ __forceinline__ uint32_t multiply(uint32_t a, uint32_t b) { return fma(a, b, 0x80008000); }  // a b + -0
  static __device__ __forceinline__ uint32_t subtract(uint32_t a, uint32_t b) { return fma(b, 0xbf80bf80, a); }  // b * -1 + a
#endif
  static __device__ __forceinline__ uint32_t round(float first, float second) {
    uint32_t d;
    asm("cvt.rn.bf16x2.f32 %0, %2, %1;" : "=r"(d) : "f"(first), "f"(second));
    return d;
  }
  static __device__ __forceinline__ float widen(uint16_t bits) {
    float value;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm("cvt.f32.bf16 %0, %1;" : "=f"(value) : "h"(bits));
#else
    asm("mov.b32 %0, {0, %1};" : "=f"(value) : "h"(bits));
#endif
    return value;
  }
  static __device__ __forceinline__ float2 floats(uint32_t pair) {
    struct Halves {
      uint16_t first, second;
    };
    const Halves halves = *reinterpret_cast<const Halves*>(&pair);
    return {widen(halves.first), widen(halves.second)};
  }
};
template <> struct Pair<Float16> {
  static __device__ __forceinline__ uint32_t fma(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
  }
  static __device__ __forceinline__ uint32_t multiply(uint32_t a, uint32_t b) {
    uint32_t d;
    asm("mul.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
  }
  static __device__ __forceinline__ uint32_t subtract(uint32_t a, uint32_t b) {
    uint32_t d;
    asm("sub.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
  }
  static __device__ __forceinline__ uint32_t round(float first, float second) {
    uint32_t d;
    asm("cvt.rn.f16x2.f32 %0, %2, %1;" : "=r"(d) : "f"(first), "f"(second));
    return d;
  }
  static __device__ __forceinline__ float2 floats(uint32_t pair) {
    float2 values;
    asm("{.reg .f16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, low;}" : "=f"(values.x) : "r"(pair));
    asm("{.reg .f16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, high;}" : "=f"(values.y) : "r"(pair));
    return values;
  }
};

/// a * b + c of both halves, rounded once.
template <typename T> __device__ __forceinline__ uint32_t fma2(uint32_t a, uint32_t b, uint32_t c) { return Pair<T>::fma(a, b, c); }
template <typename T> __device__ __forceinline__ uint32_t multiply2(uint32_t a, uint32_t b) { return Pair<T>::multiply(a, b); }
template <typename T> __device__ __forceinline__ uint32_t subtract2(uint32_t a, uint32_t b) { return Pair<T>::subtract(a, b); }
/// Two floats rounded to nearest, `first` in the low half.
template <typename T> __device__ __forceinline__ uint32_t round2(float first, float second) { return Pair<T>::round(first, second); }
template <typename T> __device__ __forceinline__ float2 floats2(uint32_t pair) { return Pair<T>::floats(pair); }
template <typename T> __device__ __forceinline__ float to_float(uint16_t bits) { return floats2<T>(bits).x; }
template <typename T> __device__ __forceinline__ uint16_t from_float(float value) { return static_cast<uint16_t>(round2<T>(value, 0.0f)); }

/// To 2^-22 of the result and |x| 2^-23; results below 2^-126 are 0. One multiplication and one instruction of the special function unit.
__device__ __forceinline__ float exponential(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.4426950408889634f));
  return y;
}
/// To 1 ulp; results below 2^-126 are 0. One instruction, where a division takes ten and a branch.
__device__ __forceinline__ float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float exponential_base_2(float x) { return exp2f(x); }
__device__ __forceinline__ float logarithm_base_2(float x) { return log2f(x); }
__device__ __forceinline__ float reciprocal_square_root(float x) { return rsqrtf(x); }
/// Of an angle in radians.
__device__ __forceinline__ void sine_cosine(float angle, float& sine, float& cosine) { sincosf(angle, &sine, &cosine); }
__device__ __forceinline__ int round_to_int(float x) { return __float2int_rn(x); }  // ties to even
__device__ __forceinline__ float error_function(float x) { return erff(x); }
/// The same number, of which the compiler computes nothing before this place: what it takes out of a loop holds registers in it.
__device__ __forceinline__ int from_here(int x) {
  asm volatile("" : "+r"(x));
  return x;
}
__device__ __forceinline__ uint32_t bits_of(float x) { return __float_as_uint(x); }
__device__ __forceinline__ float float_of(uint32_t bits) { return __uint_as_float(bits); }

}  // namespace usmlite::cuda::ptx
