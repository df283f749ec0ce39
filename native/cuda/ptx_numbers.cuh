// Arithmetic on packed numbers. A pair of 16-bit floats is a uint32_t, the first in the low half. Device side of ptx.cuh.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

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

template <typename T> struct Pair;
template <> struct Pair<BFloat16> {
  static __device__ __forceinline__ __nv_bfloat162 of(uint32_t v) { return *reinterpret_cast<__nv_bfloat162*>(&v); }
  static __device__ __forceinline__ uint32_t bits(__nv_bfloat162 v) { return *reinterpret_cast<uint32_t*>(&v); }
  static __device__ __forceinline__ __nv_bfloat162 round(float a, float b) { return __floats2bfloat162_rn(a, b); }
  static __device__ __forceinline__ float2 floats(__nv_bfloat162 v) { return __bfloat1622float2(v); }
};
template <> struct Pair<Float16> {
  static __device__ __forceinline__ __half2 of(uint32_t v) { return *reinterpret_cast<__half2*>(&v); }
  static __device__ __forceinline__ uint32_t bits(__half2 v) { return *reinterpret_cast<uint32_t*>(&v); }
  static __device__ __forceinline__ __half2 round(float a, float b) { return __floats2half2_rn(a, b); }
  static __device__ __forceinline__ float2 floats(__half2 v) { return __half22float2(v); }
};

/// a * b + c of both halves, rounded once.
template <typename T> __device__ __forceinline__ uint32_t fma2(uint32_t a, uint32_t b, uint32_t c) {
  return Pair<T>::bits(__hfma2(Pair<T>::of(a), Pair<T>::of(b), Pair<T>::of(c)));
}
template <typename T> __device__ __forceinline__ uint32_t multiply2(uint32_t a, uint32_t b) { return Pair<T>::bits(__hmul2(Pair<T>::of(a), Pair<T>::of(b))); }
template <typename T> __device__ __forceinline__ uint32_t subtract2(uint32_t a, uint32_t b) { return Pair<T>::bits(__hsub2(Pair<T>::of(a), Pair<T>::of(b))); }
/// Two floats rounded to nearest, `first` in the low half.
template <typename T> __device__ __forceinline__ uint32_t round2(float first, float second) { return Pair<T>::bits(Pair<T>::round(first, second)); }
template <typename T> __device__ __forceinline__ float2 floats2(uint32_t pair) { return Pair<T>::floats(Pair<T>::of(pair)); }
template <typename T> __device__ __forceinline__ float to_float(uint16_t bits) { return floats2<T>(bits).x; }
template <typename T> __device__ __forceinline__ uint16_t from_float(float value) { return static_cast<uint16_t>(round2<T>(value, 0.0f)); }

__device__ __forceinline__ float exponential(float x) { return __expf(x); }
__device__ __forceinline__ float exponential_base_2(float x) { return exp2f(x); }
__device__ __forceinline__ float logarithm_base_2(float x) { return log2f(x); }
__device__ __forceinline__ float reciprocal_square_root(float x) { return rsqrtf(x); }
/// Of an angle in radians.
__device__ __forceinline__ void sine_cosine(float angle, float& sine, float& cosine) { sincosf(angle, &sine, &cosine); }
__device__ __forceinline__ int round_to_int(float x) { return __float2int_rn(x); }  // ties to even
__device__ __forceinline__ float error_function(float x) { return erff(x); }
__device__ __forceinline__ uint32_t bits_of(float x) { return __float_as_uint(x); }
__device__ __forceinline__ float float_of(uint32_t bits) { return __uint_as_float(bits); }

}  // namespace usmlite::cuda::ptx
