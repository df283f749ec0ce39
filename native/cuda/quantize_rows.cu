// One thread block quantizes one row: it is read once, kept in registers while its largest magnitude, or its range, is found, and
// written.
#include "cuda/quantize_rows.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kMostThreads = 256;
constexpr int kHeld = 4;  // vectors of eight values that a thread keeps; longer rows are read again
constexpr float kSmallestMagnitude = 1e-30f;  // of a row that is not taken for zeros, as on the CPU

/// The bits of e4m3 nearest to `value`, ties to even; its magnitude is at most 448.
__device__ __forceinline__ uint32_t to_e4m3(float value) {
  const uint32_t bits = ptx::bits_of(value), sign = bits >> 24 & 0x80, magnitude = bits & 0x7fffffffu;
  if (magnitude < (127u - 6u) << 23) return sign | static_cast<uint32_t>(ptx::round_to_int(ptx::float_of(magnitude) * 512.0f));
  const uint32_t rounded = magnitude + 0x7ffff + (magnitude >> 20 & 1);
  return sign | ((rounded >> 20) - ((127 - 7) << 3));
}

constexpr float kHighestStep = 254.0f;  // of a range, whose codes are the steps from its least value, less kCentre
constexpr int kCentre = 127;

/// What the codes of a row are found with.
struct RowCoding {
  float inverse;  // of the scale
  float least;    // of kInt8Asymmetric
};

/// kInt8 stands for kInt4 too.
template <RowCodes kTo> __device__ __forceinline__ uint32_t to_code(float value, const RowCoding& row) {
  if constexpr (kTo == RowCodes::kInt8) {
    return static_cast<uint32_t>(ptx::round_to_int(value * row.inverse)) & 0xff;
  } else if constexpr (kTo == RowCodes::kInt8Asymmetric) {
    return static_cast<uint32_t>(ptx::round_to_int(fminf((value - row.least) * row.inverse, kHighestStep)) - kCentre) & 0xff;
  } else {
    return to_e4m3(value * row.inverse);
  }
}

/// What is asked of a row's values: all a thread, a warp and a block know of them.
struct RowExtremes {
  uint32_t largest = 0;  // bits of the largest magnitude
  float least, most;     // of kInt8Asymmetric

  __device__ __forceinline__ explicit RowExtremes(float some) : least(some), most(some) {}

  template <RowCodes kTo> __device__ __forceinline__ void add(const RowExtremes& other) {
    largest = max(largest, other.largest);
    if constexpr (kTo == RowCodes::kInt8Asymmetric) least = fminf(least, other.least), most = fmaxf(most, other.most);
  }
  template <typename T, RowCodes kTo> __device__ __forceinline__ void add(const uint4& v) {
    const uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (const uint32_t pair : pairs) {
      const float2 f = ptx::floats2<T>(pair);
      largest = max(largest, max(ptx::bits_of(f.x) & 0x7fffffffu, ptx::bits_of(f.y) & 0x7fffffffu));
      if constexpr (kTo == RowCodes::kInt8Asymmetric) least = fminf(least, fminf(f.x, f.y)), most = fmaxf(most, fmaxf(f.x, f.y));
    }
  }
};

template <typename T, RowCodes kTo> __device__ __forceinline__ uint2 quantize(const uint4& v, const RowCoding& row) {
  const uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
  uint32_t words[2] = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 f = ptx::floats2<T>(pairs[i]);
    words[i / 2] |= (to_code<kTo>(f.x, row) | to_code<kTo>(f.y, row) << 8) << (16 * (i % 2));
  }
  return make_uint2(words[0], words[1]);
}

/// Eight values of which the row has `left`, or more; beyond its end, those of `fill`.
__device__ __forceinline__ uint4 filled(const uint4& v, int left, uint16_t fill) {
  uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (2 * i >= left) pairs[i] = fill * 0x10001u;
    else if (2 * i + 1 >= left) pairs[i] = (pairs[i] & 0xffff) | static_cast<uint32_t>(fill) << 16;
  }
  return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}
/// Eight codes likewise; beyond the end, zeros.
__device__ __forceinline__ uint2 cleared(const uint2& codes, int left) {
  const auto bytes = [](int count) { return count >= 4 ? 0xffffffffu : count > 0 ? (1u << (8 * count)) - 1 : 0u; };
  return make_uint2(codes.x & bytes(left), codes.y & bytes(left - 4));
}

template <typename T, RowCodes kTo>
__global__ void __launch_bounds__(kMostThreads) quantize_rows_kernel(const QuantizeRowsArguments q) {
  const int64_t row = blockIdx.x;
  const uint4* x = reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(q.x) + row * q.x_stride);
  uint2* codes = reinterpret_cast<uint2*>(static_cast<uint8_t*>(q.codes) + row * q.codes_stride);
  const int vectors = (q.columns + 7) / 8, thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);

  // Where a thread has nothing, zero changes no magnitude, and the row's first value no range.
  constexpr bool kRange = kTo == RowCodes::kInt8Asymmetric;
  const uint16_t first = *reinterpret_cast<const uint16_t*>(x);
  const auto load = [&](int vector) { return kRange ? filled(x[vector], q.columns - 8 * vector, first) : x[vector]; };
  uint4 held[kHeld] = {};
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if (thread + i * threads < vectors) held[i] = load(thread + i * threads);
  }
  RowExtremes extremes(kRange ? ptx::to_float<T>(first) : 0.0f);
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if (!kRange || thread + i * threads < vectors) extremes.template add<T, kTo>(held[i]);
  }
  for (int i = thread + kHeld * threads; i < vectors; i += threads) extremes.template add<T, kTo>(load(i));

  for (int mask = 16; mask > 0; mask /= 2) {
    RowExtremes other = extremes;
    other.largest = ptx::shuffle_xor(extremes.largest, mask);
    if constexpr (kRange) {
      other.least = ptx::shuffle_xor(extremes.least, mask), other.most = ptx::shuffle_xor(extremes.most, mask);
    }
    extremes.template add<kTo>(other);
  }
  RowExtremes* of_warps = reinterpret_cast<RowExtremes*>(shared_memory());
  const int own_warp = ptx::warp_id();  // asks all lanes
  if (ptx::lane_id() == 0) of_warps[own_warp] = extremes;
  ptx::block_sync();
  for (int warp = 0; warp < threads / 32; ++warp) extremes.template add<kTo>(of_warps[warp]);

  const bool finite = extremes.largest < 0x7f800000u;
  RowCoding coding{0.0f, 0.0f};
  float scale, offset = 0.0f;
  bool zero = !finite;  // all codes
  if constexpr (kRange) {
    scale = extremes.most / kHighestStep - extremes.least / kHighestStep;
    zero = zero || scale < kSmallestMagnitude;
    coding = {1.0f / scale, extremes.least};
    if (zero) scale = 1.0f;
    if (finite) offset = zero ? extremes.least : extremes.least + static_cast<float>(kCentre) * scale;
  } else {
    const float limit = kTo == RowCodes::kFloat8 ? 448.0f : q.to == RowCodes::kInt4 ? 7.0f : 127.0f;
    const float magnitude = ptx::float_of(extremes.largest);
    zero = zero || magnitude < kSmallestMagnitude;
    scale = zero ? 0.0f : magnitude / limit;
    coding.inverse = limit / magnitude;
  }
  if (thread == 0) {
    q.scales[row] = finite ? scale : ptx::float_of(0x7fc00000u);
    if constexpr (kRange) q.offsets[row] = offset;
  }
  const auto store = [&](int vector, const uint4& values) {
    const uint2 of_values = zero ? make_uint2(0, 0) : quantize<T, kTo>(values, coding);
    codes[vector] = kRange ? cleared(of_values, q.columns - 8 * vector) : of_values;
  };
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if (thread + i * threads < vectors) store(thread + i * threads, held[i]);
  }
  for (int i = thread + kHeld * threads; i < vectors; i += threads) store(i, x[i]);
  if (vectors % 2 && thread == 0) codes[vectors] = make_uint2(0, 0);
}

template <typename T> void launch_kernel(const QuantizeRowsArguments& q, const LaunchShape& shape, StreamHandle stream) {
  switch (q.to) {
    case RowCodes::kInt8: case RowCodes::kInt4: return launch(quantize_rows_kernel<T, RowCodes::kInt8>, shape, stream, q);
    case RowCodes::kInt8Asymmetric: return launch(quantize_rows_kernel<T, RowCodes::kInt8Asymmetric>, shape, stream, q);
    case RowCodes::kFloat8: return launch(quantize_rows_kernel<T, RowCodes::kFloat8>, shape, stream, q);
  }
}

bool is_aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; }

}  // namespace

void quantize_rows(const QuantizeRowsArguments& q, StreamHandle stream) {
  if (q.x_stride % 8 != 0 || q.codes_stride % 16 != 0 || q.x_stride < q.columns || q.codes_stride < q.columns || !is_aligned(q.x) ||
      !is_aligned(q.codes)) {
    throw Error(error_code::kInvalidArgument,
                "rows to quantize on a GPU must begin at multiples of 16 bytes");
  }
  if (q.rows <= 0 || q.columns <= 0) return;
  const unsigned threads = static_cast<unsigned>(std::min(kMostThreads, ((q.columns + 7) / 8 + 31) / 32 * 32));
  const LaunchShape shape{static_cast<unsigned>(q.rows), 1, 1, threads, kMostThreads / 32 * sizeof(RowExtremes)};
  if (q.from == RowFloats::kBFloat16) launch_kernel<BFloat16>(q, shape, stream);
  else launch_kernel<Float16>(q, shape, stream);
}

}  // namespace usmlite::cuda
