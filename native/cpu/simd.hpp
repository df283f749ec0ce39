// The float vector of the instruction set this file is compiled for: 8 lanes with AVX2, 16 with AVX-512.
// Included only by native/cpu/*.cpp, which CMake compiles once per instruction set with USMLITE_ISA set.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace usmlite::cpu::USMLITE_ISA {

#if defined(__AVX512F__)

struct Vector {
  static constexpr int64_t kLanes = 16;
  __m512 value;

  static Vector zero() { return {_mm512_setzero_ps()}; }
  static Vector all(float x) { return {_mm512_set1_ps(x)}; }
  static Vector load(const float* from) { return {_mm512_loadu_ps(from)}; }
  /// The first `count` (0..kLanes) elements, zeros behind; touches no memory beyond them.
  static Vector load(const float* from, int64_t count) {
    if (__builtin_constant_p(count) && count == kLanes) return load(from);
    return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from)};
  }
  /// The first `count` (0..kLanes) bytes as numbers 0..255, zeros behind.
  static Vector load_bytes(const uint8_t* from, int64_t count) {
    const __m128i bytes = _mm_maskz_loadu_epi8(static_cast<__mmask16>((1u << count) - 1), from);
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))};
  }
  /// kLanes signed bytes.
  static Vector load_signed_bytes(const int8_t* from) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))))};
  }
  void store(float* to) const { _mm512_storeu_ps(to, value); }
  void store(float* to, int64_t count) const {
    if (__builtin_constant_p(count) && count == kLanes) return store(to);
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), value);
  }
  /// The first `count` lanes of this and the others of `rest`.
  Vector head(int64_t count, Vector rest) const {
    if (__builtin_constant_p(count) && count == kLanes) return *this;
    return {_mm512_mask_mov_ps(rest.value, static_cast<__mmask16>((1u << count) - 1), value)};
  }
  float sum() const { return _mm512_reduce_add_ps(value); }
  float maximum() const { return _mm512_reduce_max_ps(value); }
};

inline Vector operator+(Vector a, Vector b) { return {_mm512_add_ps(a.value, b.value)}; }
inline Vector operator-(Vector a, Vector b) { return {_mm512_sub_ps(a.value, b.value)}; }
inline Vector operator*(Vector a, Vector b) { return {_mm512_mul_ps(a.value, b.value)}; }
inline Vector operator/(Vector a, Vector b) { return {_mm512_div_ps(a.value, b.value)}; }
/// a * b + c
inline Vector multiply_add(Vector a, Vector b, Vector c) { return {_mm512_fmadd_ps(a.value, b.value, c.value)}; }
inline Vector maximum(Vector a, Vector b) { return {_mm512_max_ps(a.value, b.value)}; }
inline Vector minimum(Vector a, Vector b) { return {_mm512_min_ps(a.value, b.value)}; }
inline Vector absolute(Vector a) { return {_mm512_abs_ps(a.value)}; }
inline Vector square_root(Vector a) { return {_mm512_sqrt_ps(a.value)}; }
/// Nearest integer, ties to even.
inline Vector round(Vector a) {
  return {_mm512_roundscale_ps(a.value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
/// Adds the low bits of `n`, taken as integers, to the exponents of `a`.
inline Vector add_to_exponent(Vector a, Vector n) {
  const __m512i shifted = _mm512_slli_epi32(_mm512_castps_si512(n.value), 23);
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.value), shifted))};
}
/// Lane by lane: a > b ? x : y
inline Vector select_greater(Vector a, Vector b, Vector x, Vector y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.value, b.value, _CMP_GT_OQ), y.value, x.value)};
}

#elif defined(__AVX2__)

struct Vector {
  static constexpr int64_t kLanes = 8;
  __m256 value;

  static __m256i first(int64_t count) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane);
  }
  static Vector zero() { return {_mm256_setzero_ps()}; }
  static Vector all(float x) { return {_mm256_set1_ps(x)}; }
  static Vector load(const float* from) { return {_mm256_loadu_ps(from)}; }
  /// The first `count` (0..kLanes) elements, zeros behind; touches no memory beyond them.
  static Vector load(const float* from, int64_t count) {
    if (__builtin_constant_p(count) && count == kLanes) return load(from);
    return {_mm256_maskload_ps(from, first(count))};
  }
  /// The first `count` (0..kLanes) bytes as numbers 0..255, zeros behind.
  static Vector load_bytes(const uint8_t* from, int64_t count) {
    int64_t bytes = 0;
    std::memcpy(&bytes, from, static_cast<size_t>(count));
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes)))};
  }
  /// kLanes signed bytes.
  static Vector load_signed_bytes(const int8_t* from) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))))};
  }
  void store(float* to) const { _mm256_storeu_ps(to, value); }
  void store(float* to, int64_t count) const {
    if (__builtin_constant_p(count) && count == kLanes) return store(to);
    _mm256_maskstore_ps(to, first(count), value);
  }
  /// The first `count` lanes of this and the others of `rest`.
  Vector head(int64_t count, Vector rest) const {
    if (__builtin_constant_p(count) && count == kLanes) return *this;
    return {_mm256_blendv_ps(rest.value, value, _mm256_castsi256_ps(first(count)))};
  }
  float sum() const {
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    const __m128 quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
  }
  float maximum() const {
    const __m128 half = _mm_max_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    const __m128 quarter = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(quarter, _mm_movehdup_ps(quarter)));
  }
};

inline Vector operator+(Vector a, Vector b) { return {_mm256_add_ps(a.value, b.value)}; }
inline Vector operator-(Vector a, Vector b) { return {_mm256_sub_ps(a.value, b.value)}; }
inline Vector operator*(Vector a, Vector b) { return {_mm256_mul_ps(a.value, b.value)}; }
inline Vector operator/(Vector a, Vector b) { return {_mm256_div_ps(a.value, b.value)}; }
/// a * b + c
inline Vector multiply_add(Vector a, Vector b, Vector c) { return {_mm256_fmadd_ps(a.value, b.value, c.value)}; }
inline Vector maximum(Vector a, Vector b) { return {_mm256_max_ps(a.value, b.value)}; }
inline Vector minimum(Vector a, Vector b) { return {_mm256_min_ps(a.value, b.value)}; }
inline Vector absolute(Vector a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.value)}; }
inline Vector square_root(Vector a) { return {_mm256_sqrt_ps(a.value)}; }
/// Nearest integer, ties to even.
inline Vector round(Vector a) {
  return {_mm256_round_ps(a.value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
/// Adds the low bits of `n`, taken as integers, to the exponents of `a`.
inline Vector add_to_exponent(Vector a, Vector n) {
  const __m256i shifted = _mm256_slli_epi32(_mm256_castps_si256(n.value), 23);
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.value), shifted))};
}
/// Lane by lane: a > b ? x : y
inline Vector select_greater(Vector a, Vector b, Vector x, Vector y) {
  return {_mm256_blendv_ps(y.value, x.value, _mm256_cmp_ps(a.value, b.value, _CMP_GT_OQ))};
}

#endif

/// e^x with a relative error below 1e-7 for x in -87..88, clamped outside; NaN stays NaN. e^x = 2^n 2^f with n = round(x
/// log2 e); for 2^f, f in -1/2..1/2, the polynomial of degree 6 with the least relative error (2e-9).
inline Vector exponential(Vector x) {
  // max and min return their second operand when either is NaN.
  x = minimum(Vector::all(88.0f), maximum(Vector::all(-87.0f), x));
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  const Vector magic = Vector::all(12582912.0f), log2_e = Vector::all(1.44269504f);
  const Vector shifted = multiply_add(x, log2_e, magic);
  Vector f = multiply_add(x, log2_e, magic - shifted);
  f = multiply_add(x, Vector::all(1.92596299e-8f), f);  // log2 e as two floats
  Vector p = Vector::all(1.5353362e-4f);
  p = multiply_add(p, f, Vector::all(1.3398874e-3f));
  p = multiply_add(p, f, Vector::all(9.6184370e-3f));
  p = multiply_add(p, f, Vector::all(5.5503324e-2f));
  p = multiply_add(p, f, Vector::all(2.4022648e-1f));
  p = multiply_add(p, f, Vector::all(6.9314720e-1f));
  p = multiply_add(p, f, Vector::all(1.0f));
  return add_to_exponent(p, shifted);
}

/// 1 / (1 + e^-x)
inline Vector sigmoid(Vector x) {
  return Vector::all(1.0f) / (Vector::all(1.0f) + exponential(Vector::zero() - x));
}

/// d/dx (x sigmoid(x))
inline Vector silu_derivative(Vector x) {
  const Vector s = sigmoid(x);
  return s * multiply_add(x, Vector::all(1.0f) - s, Vector::all(1.0f));
}

/// Calls step(index, lanes) over [0, count) in steps of kLanes; the last may have fewer lanes.
template <typename Step>
inline void for_each_vector(int64_t count, Step&& step) {
  int64_t i = 0;
  for (; i + Vector::kLanes <= count; i += Vector::kLanes) step(i, Vector::kLanes);
  if (i < count) step(i, count - i);
}

}  // namespace usmlite::cpu::USMLITE_ISA
