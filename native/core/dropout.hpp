// Inverted dropout whose mask is a function of (seed, element index): recomputed in the backward pass, never stored.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/random.hpp"

namespace usmlite {

struct Dropout {
  uint64_t seed = 0;
  uint32_t threshold = 0;  // an element is dropped when its 16 random bits are below this
  float scale = 1.0f;      // of the kept elements: 1 / probability of being kept

  Dropout() = default;
  /// probability in [0, 1) is rounded to a multiple of 2^-16; the scale is exact for the rounded one.
  Dropout(double probability, uint64_t seed)
      : seed(seed),
        threshold(std::min<uint32_t>(static_cast<uint32_t>(std::lround(probability * 65536.0)), 65535)),
        scale(65536.0f / static_cast<float>(65536 - threshold)) {}

  bool active() const { return threshold != 0; }

  /// 0 for a dropped element, `scale` for a kept one. One 64-bit hash serves four neighbours.
  float multiplier(uint64_t index) const {
    const uint64_t bits = random_bits(seed, index / 4) >> (16 * (index % 4));
    return (bits & 0xffff) < threshold ? 0.0f : scale;
  }
};

}  // namespace usmlite
