// One thread block quantizes one row: it is read once, kept in registers while its largest magnitude is found, and written.
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

template <RowCodes kTo> __device__ __forceinline__ uint32_t to_code(float value) {
  if constexpr (kTo == RowCodes::kInt8) return static_cast<uint32_t>(ptx::round_to_int(value)) & 0xff;
  else return to_e4m3(value);
}

template <typename T> __device__ __forceinline__ uint32_t largest_bits(const uint4& v, uint32_t largest) {
  const uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (const uint32_t pair : pairs) {
    const float2 f = ptx::floats2<T>(pair);
    largest = max(largest, max(ptx::bits_of(f.x) & 0x7fffffffu, ptx::bits_of(f.y) & 0x7fffffffu));
  }
  return largest;
}

template <typename T, RowCodes kTo> __device__ __forceinline__ uint2 quantize(const uint4& v, float inverse) {
  const uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
  uint32_t words[2] = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 f = ptx::floats2<T>(pairs[i]);
    words[i / 2] |= (to_code<kTo>(f.x * inverse) | to_code<kTo>(f.y * inverse) << 8) << (16 * (i % 2));
  }
  return make_uint2(words[0], words[1]);
}

template <typename T, RowCodes kTo>
__global__ void __launch_bounds__(kMostThreads) quantize_rows_kernel(const QuantizeRowsArguments q) {
  const int64_t row = blockIdx.x;
  const uint4* x = reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(q.x) + row * q.x_stride);
  uint2* codes = reinterpret_cast<uint2*>(static_cast<uint8_t*>(q.codes) + row * q.codes_stride);
  const int vectors = q.columns / 8, thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);

  uint4 held[kHeld] = {};
  uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if (thread + i * threads < vectors) held[i] = x[thread + i * threads];
  }
#pragma unroll
  for (int i = 0; i < kHeld; ++i) largest = largest_bits<T>(held[i], largest);
  for (int i = thread + kHeld * threads; i < vectors; i += threads) largest = largest_bits<T>(x[i], largest);

  for (int mask = 16; mask > 0; mask /= 2) largest = max(largest, ptx::shuffle_xor(largest, mask));
  uint32_t* of_warps = reinterpret_cast<uint32_t*>(shared_memory());
  const int own_warp = ptx::warp_id();  // asks all lanes
  if (ptx::lane_id() == 0) of_warps[own_warp] = largest;
  ptx::block_sync();
  for (int warp = 0; warp < threads / 32; ++warp) largest = max(largest, of_warps[warp]);

  const float limit = kTo == RowCodes::kInt8 ? static_cast<float>(q.highest_code) : 448.0f;
  const float magnitude = ptx::float_of(largest);
  const bool finite = largest < 0x7f800000u, zero = !finite || magnitude < kSmallestMagnitude;
  // Not finite: multiplied by 0 and not by what makes codes, which NaN would not survive.
  const float inverse = zero ? 0.0f : limit / magnitude;
  if (thread == 0) q.scales[row] = !finite ? ptx::float_of(0x7fc00000u) : zero ? 0.0f : magnitude / limit;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int vector = thread + i * threads;
    if (vector < vectors) codes[vector] = zero ? make_uint2(0, 0) : quantize<T, kTo>(held[i], inverse);
  }
  for (int i = thread + kHeld * threads; i < vectors; i += threads) {
    codes[i] = zero ? make_uint2(0, 0) : quantize<T, kTo>(x[i], inverse);
  }
  if (vectors % 2 && thread == 0) codes[vectors] = make_uint2(0, 0);
}

bool is_aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; }

}  // namespace

void quantize_rows(const QuantizeRowsArguments& q, StreamHandle stream) {
  if (q.columns % 8 != 0 || q.x_stride % 8 != 0 || q.codes_stride % 16 != 0 || q.x_stride < q.columns ||
      q.codes_stride < q.columns || !is_aligned(q.x) || !is_aligned(q.codes)) {
    throw Error(error_code::kInvalidArgument,
                "rows to quantize on a GPU must have a multiple of 8 columns and begin at multiples of 16 bytes");
  }
  if (q.rows <= 0 || q.columns <= 0) return;
  const unsigned threads = static_cast<unsigned>(std::min(kMostThreads, (q.columns / 8 + 31) / 32 * 32));
  const LaunchShape shape{static_cast<unsigned>(q.rows), 1, 1, threads, kMostThreads / 32 * sizeof(uint32_t)};
  const bool bfloat16 = q.from == RowFloats::kBFloat16;
  if (q.to == RowCodes::kInt8) {
    launch(bfloat16 ? quantize_rows_kernel<BFloat16, RowCodes::kInt8> : quantize_rows_kernel<Float16, RowCodes::kInt8>, shape,
           stream, q);
  } else {
    launch(bfloat16 ? quantize_rows_kernel<BFloat16, RowCodes::kFloat8> : quantize_rows_kernel<Float16, RowCodes::kFloat8>,
           shape, stream, q);
  }
}

}  // namespace usmlite::cuda
