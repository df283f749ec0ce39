// The softmax of a row of scores that are made block by block (Milakov, Gimelshein 2018; Dao et al. 2022).
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/dropout_mask.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

struct RunningSoftmax {
  /// Of all scores so far.
  float maximum = -std::numeric_limits<float>::infinity();
  /// Of exp(score - maximum) over all scores so far, dropped ones included.
  float sum = 0.0f;

  /// Turns a block of scores into exp(score - maximum), dropped out; `index` is that of the first in the dropout stream. Returns the
  /// factor that the results of earlier blocks must be multiplied by.
  float add(float* scores, int64_t count, const DropoutMask& mask = DropoutMask({}), uint64_t index = 0) {
    const Vector lowest = Vector::all(-std::numeric_limits<float>::infinity());
    Vector largest = lowest;
    for_each_vector(count, [&](int64_t i, int64_t lanes) {
      largest = usmlite::cpu::USMLITE_ISA::maximum(largest, Vector::load(scores + i, lanes).head(lanes, lowest));
    });
    const float top = std::max(maximum, largest.maximum());
    const float rescale = std::exp(maximum - top);
    const Vector shift = Vector::all(top);
    Vector powers = Vector::zero();
    for_each_masked(mask, index, count, [&](int64_t i, int64_t lanes, Vector multiplier) __attribute__((always_inline)) {
      const Vector power = exponential(Vector::load(scores + i, lanes) - shift);
      powers = powers + power.head(lanes, Vector::zero());
      (power * multiplier).store(scores + i, lanes);
    });
    maximum = top;
    sum = sum * rescale + powers.sum();
    return rescale;
  }
};

}  // namespace usmlite::cpu::USMLITE_ISA
