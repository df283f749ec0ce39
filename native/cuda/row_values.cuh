// Neighbouring values of a row, read and written at once and computed with as floats: what kernels that wait for memory alone
// are made of. Rows begin at multiples of 16 bytes (device_tensor.hpp).
#pragma once

#include "cuda/ptx.cuh"

namespace usmlite::cuda {

/// Values in 16 bytes.
inline constexpr int kHalvesPerVector = 8, kFloatsPerVector = 4;

/// kCount is 8, all aligned to 16 bytes, or 1.
template <typename T, int kCount> __device__ __forceinline__ void load_values(const uint16_t* from, float (&values)[kCount]) {
  if constexpr (kCount == 1) {
    values[0] = ptx::to_float<T>(*from);
  } else {
    static_assert(kCount == kHalvesPerVector);
    const uint4 bits = *reinterpret_cast<const uint4*>(from);
    const uint32_t pairs[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 v = ptx::floats2<T>(pairs[i]);
      values[2 * i] = v.x, values[2 * i + 1] = v.y;
    }
  }
}

template <typename T, int kCount> __device__ __forceinline__ void store_values(uint16_t* to, const float (&values)[kCount]) {
  if constexpr (kCount == 1) {
    *to = ptx::from_float<T>(values[0]);
  } else {
    static_assert(kCount == kHalvesPerVector);
    *reinterpret_cast<uint4*>(to) = uint4{ptx::round2<T>(values[0], values[1]), ptx::round2<T>(values[2], values[3]),
                                          ptx::round2<T>(values[4], values[5]), ptx::round2<T>(values[6], values[7])};
  }
}

/// float32, for kernels that are written for every type.
template <typename T, int kCount> __device__ __forceinline__ void load_values(const float* from, float (&values)[kCount]) {
  static_assert(kCount == kFloatsPerVector);
  const float4 v = *reinterpret_cast<const float4*>(from);
  values[0] = v.x, values[1] = v.y, values[2] = v.z, values[3] = v.w;
}

template <typename T, int kCount> __device__ __forceinline__ void store_values(float* to, const float (&values)[kCount]) {
  static_assert(kCount == kFloatsPerVector);
  *reinterpret_cast<float4*>(to) = float4{values[0], values[1], values[2], values[3]};
}

/// Eight parameters of a vector of `count`, from `first` on, a multiple of eight; `beyond` behind its end.
__device__ __forceinline__ void load_parameters(const float* from, int first, int count, float beyond, float (&values)[kHalvesPerVector]) {
  if (first + kHalvesPerVector <= count) {
#pragma unroll
    for (int i = 0; i < kHalvesPerVector; i += 4) {
      const float4 v = *reinterpret_cast<const float4*>(from + first + i);
      values[i] = v.x, values[i + 1] = v.y, values[i + 2] = v.z, values[i + 3] = v.w;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kHalvesPerVector; ++i) values[i] = first + i < count ? from[first + i] : beyond;
}

}  // namespace usmlite::cuda
