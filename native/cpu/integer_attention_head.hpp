// What attention in whole numbers shares: rows and columns of a head as codes, in panels of pairs, and the softmax of their scores.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/allocator.hpp"
#include "cpu/activation_bytes.hpp"
#include "cpu/integer_attention.hpp"
#include "cpu/pair_product.hpp"

namespace usmlite::cpu::USMLITE_ISA {

inline int64_t whole_vectors(int64_t count) { return (count + Vector::kLanes - 1) / Vector::kLanes * Vector::kLanes; }

struct RowRounding {
  float scale, inverse;
};

/// What is not finite gives NaN scales, and with them NaN results.
inline RowRounding rounding_of(float largest, bool finite, int32_t largest_code) {
  const auto codes = static_cast<float>(largest_code);
  if (!finite) return {std::numeric_limits<float>::quiet_NaN(), 0.0f};
  if (largest < std::numeric_limits<float>::min() * codes) return {0.0f, 0.0f};
  return {largest / codes, codes / largest};
}

/// codes (whole vectors of count) of a row, zeros behind its end; returns the scale.
inline float round_row(const float* row, int64_t count, int16_t* codes) {
  const int32_t bits = largest_magnitude_bits(row, count);
  const RowRounding rounding = rounding_of(std::bit_cast<float>(bits), bits < 0x7F800000, kLargestScoreCode);
  const Vector inverse = Vector::all(rounding.inverse);
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    PairVector::nearest(Vector::load(row + i, lanes) * inverse).store_halves(codes + i);
  });
  return rounding.scale;
}

/// kLargestPowerCode * e^x for x <= 0, with a relative error below 3e-6; next to nothing below -30. As `exponential`, with the polynomial of
/// degree 4 with the least relative error.
inline Vector power_code(Vector x) {
  constexpr auto kOne = static_cast<float>(kLargestPowerCode);
  const Vector magic = Vector::all(12582912.0f), log2_e = Vector::all(1.44269504f);  // 1.5 * 2^23
  x = maximum(Vector::all(-30.0f), x);
  const Vector shifted = multiply_add(x, log2_e, magic), f = multiply_add(x, log2_e, magic - shifted);
  Vector p = Vector::all(9.57008e-3f * kOne);
  p = multiply_add(p, f, Vector::all(5.591784e-2f * kOne));
  p = multiply_add(p, f, Vector::all(2.4024745e-1f * kOne));
  p = multiply_add(p, f, Vector::all(6.9312182e-1f * kOne));
  p = multiply_add(p, f, Vector::all(9.9999926e-1f * kOne));
  return add_to_exponent(p, shifted);
}

/// The softmax of a row of scores that are made block by block, as whole numbers.
struct IntegerSoftmax {
  float maximum = -std::numeric_limits<float>::infinity();
  /// Of the codes so far, relative to `maximum`.
  float sum = 0.0f;

  /// codes (whole vectors of count, zeros behind its end) of a block of scores. Returns the factor that the results of earlier blocks must
  /// be multiplied by.
  float add(const float* scores, int64_t count, int16_t* codes) {
    const Vector lowest = Vector::all(-std::numeric_limits<float>::infinity());
    Vector largest = lowest, nothing = Vector::zero();
    for_each_vector(count, [&](int64_t i, int64_t lanes) {
      const Vector score = Vector::load(scores + i, lanes);
      largest = usmlite::cpu::USMLITE_ISA::maximum(largest, score.head(lanes, lowest));
      nothing = nothing + score * Vector::zero();
    });
    const float top = std::max(maximum, largest.maximum());
    const float rescale = std::exp(maximum - top);
    const Vector shift = Vector::all(top);
    PairVector total = PairVector::zero();
    for_each_vector(count, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
      const PairVector code = PairVector::nearest(power_code(Vector::load(scores + i, lanes) - shift).head(lanes, Vector::zero()));
      total = total + code;
      code.store_halves(codes + i);
    });
    maximum = top;
    sum = sum * rescale + total.floats().sum() + nothing.sum();  // NaN where a score is not finite
    return rescale;
  }
};

/// row(i) of count rows of d values -> panels of the transpose (d, count), whole panels, and the scale of each row.
template <typename Row> inline void pack_pair_rows(int64_t count, int64_t d, Row&& row, int32_t* panel, float* scales) {
  const int64_t pairs = (d + 1) / 2;
  Scratch<int16_t> codes(static_cast<size_t>(whole_vectors(d)));
  for (int64_t first = 0; first < count; first += kPairPanel, panel += pairs * kPairPanel) {
    for (int64_t i = 0; i < kPairPanel; ++i) {
      const bool present = first + i < count;
      scales[first + i] = present ? round_row(row(first + i), d, codes.data()) : 0.0f;
      for (int64_t pair = 0; pair < pairs; ++pair) {
        int32_t both = 0;
        if (present) std::memcpy(&both, codes.data() + 2 * pair, sizeof both);
        panel[pair * kPairPanel + i] = both;
      }
    }
  }
}

/// rows(count, stride) of d values -> panels of the matrix (count, d), and the scale of each column (whole panels of them).
inline void pack_pair_columns(const float* rows, int64_t stride, int64_t count, int64_t d, int32_t* panels, float* scales) {
  const int64_t pairs = (count + 1) / 2, width = whole_pair_panels(d);
  for (int64_t column = 0; column < width; column += Vector::kLanes) {
    const int64_t lanes = std::clamp<int64_t>(d - column, 0, Vector::kLanes);
    int32_t* const to = panels + column / kPairPanel * pairs * kPairPanel + column % kPairPanel;
    const auto load = [&](int64_t row) { return row < count && lanes > 0 ? Vector::load(rows + row * stride + column, lanes) : Vector::zero(); };
    Vector largest = Vector::zero(), nothing = Vector::zero();
    for (int64_t row = 0; row < count; ++row) {
      largest = maximum(largest, absolute(load(row)));
      nothing = nothing + load(row) * Vector::zero();
    }
    // A sum of 0 * x is NaN unless all x are finite.
    float most[Vector::kLanes], zeros[Vector::kLanes], inverses[Vector::kLanes];
    largest.store(most);
    nothing.store(zeros);
    for (int64_t i = 0; i < Vector::kLanes; ++i) {
      const RowRounding rounding = rounding_of(most[i], zeros[i] == 0.0f, kLargestValueCode);
      scales[column + i] = rounding.scale;
      inverses[i] = rounding.inverse;
    }
    const Vector inverse = Vector::load(inverses);
    for (int64_t pair = 0; pair < pairs; ++pair) {
      const auto code = [&](int64_t row) { return PairVector::nearest(load(row) * inverse); };
      PairVector::of(code(2 * pair), code(2 * pair + 1)).store(to + pair * kPairPanel);
    }
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
