// Dropout inside kernels: the multipliers of core/dropout.hpp, bit for bit.
#pragma once

#include "core/dropout.hpp"
#include "cuda/random.cuh"

namespace usmlite::cuda {

/// 64 random bits decide about four neighbouring elements.
__device__ __forceinline__ uint64_t dropout_bits(uint64_t seed, uint64_t group) { return random_bits(seed, group); }

/// The multiplier of element `position`, 0 to 3, of a group.
__device__ __forceinline__ float dropout_multiplier(const Dropout& dropout, uint64_t bits, int position) {
  return (static_cast<uint32_t>(bits >> (16 * position)) & 0xffff) < dropout.threshold ? 0.0f : dropout.scale;
}

/// The multiplier of any element; 1 where nothing is dropped.
__device__ __forceinline__ float dropout_multiplier(const Dropout& dropout, uint64_t index) {
  if (dropout.threshold == 0) return 1.0f;
  return dropout_multiplier(dropout, dropout_bits(dropout.seed, index / 4), static_cast<int>(index % 4));
}

/// Multiplies kCount neighbouring values, the first of which has index `index`, by their multipliers.
template <int kCount> __device__ __forceinline__ void apply_dropout(const Dropout& dropout, uint64_t index, float (&values)[kCount]) {
  if (dropout.threshold == 0) return;
  if (index % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const uint64_t bits = dropout_bits(dropout.seed, index / 4 + static_cast<uint64_t>(i / 4));
#pragma unroll
      for (int j = 0; j < 4 && i + j < kCount; ++j) values[i + j] *= dropout_multiplier(dropout, bits, j);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) values[i] *= dropout_multiplier(dropout, index + static_cast<uint64_t>(i));
}

}  // namespace usmlite::cuda
