// Counter-based random numbers: the value at (seed, index) needs no state, so dropout masks are recomputed in the
// backward pass instead of stored, and do not depend on how work is split over threads.
#pragma once
#include <cstdint>

namespace usmlite {

/// SplitMix64's finaliser (Steele, Lea, Flood 2014) over seed and index: 64 well-mixed bits.
inline uint64_t random_bits(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

/// Uniform in [0, 1) with 24 random bits.
inline float random_uniform(uint64_t seed, uint64_t index) {
  return static_cast<float>(random_bits(seed, index) >> 40) * (1.0f / 16777216.0f);
}

}  // namespace usmlite
