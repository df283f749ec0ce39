// Random numbers inside kernels: those of core/random.hpp, bit for bit.
#pragma once

#include "cuda/kernel_language.cuh"

namespace usmlite::cuda {

/// 64 well-mixed bits that are a function of (seed, index).
__device__ __forceinline__ uint64_t random_bits(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

/// Uniform in [0, 1) with 24 random bits.
__device__ __forceinline__ float random_uniform(uint64_t seed, uint64_t index) {
  return static_cast<float>(static_cast<uint32_t>(random_bits(seed, index) >> 40)) * (1.0f / 16777216.0f);
}

}  // namespace usmlite::cuda
