#include "cpu/integer_attention.hpp"

#include <bit>
#include <cmath>
#include <limits>

#include "cpu/activation_bytes.hpp"
#include "cpu/attention_head.hpp"
#include "cpu/pair_product.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// Query rows whose scores against one block of keys are held at a time.
constexpr int64_t kQueryRows = 24;

int64_t whole_vectors(int64_t count) { return (count + Vector::kLanes - 1) / Vector::kLanes * Vector::kLanes; }

struct Rounding {
  float scale, inverse;
};

/// What is not finite gives NaN scales, and with them NaN results.
Rounding rounding_of(float largest, bool finite, int32_t largest_code) {
  const auto codes = static_cast<float>(largest_code);
  if (!finite) return {std::numeric_limits<float>::quiet_NaN(), 0.0f};
  if (largest < std::numeric_limits<float>::min() * codes) return {0.0f, 0.0f};
  return {largest / codes, codes / largest};
}

/// codes (whole vectors of count) of a row, zeros behind its end; returns the scale.
float round_row(const float* row, int64_t count, int16_t* codes) {
  const int32_t bits = largest_magnitude_bits(row, count);
  const Rounding rounding = rounding_of(std::bit_cast<float>(bits), bits < 0x7F800000, kLargestScoreCode);
  const Vector inverse = Vector::all(rounding.inverse);
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    PairVector::nearest(Vector::load(row + i, lanes) * inverse).store_halves(codes + i);
  });
  return rounding.scale;
}

/// kLargestPowerCode * e^x for x <= 0, with a relative error below 3e-6; next to nothing below -30. As `exponential`, with the polynomial of
/// degree 4 with the least relative error.
Vector power_code(Vector x) {
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

// Query rows [unit.begin, unit.end) of one sequence and head.
class Unit {
 public:
  Unit(const AttentionProblem& p, const AttentionUnit& unit)
      : p_(p), unit_(unit), first_(p.offsets[unit.sequence]), frames_(p.offsets[unit.sequence + 1] - first_), d_(p.head_dim),
        source_(unit.head / (p.heads / p.key_value_heads) * d_), row_stride_(whole_vectors(d_)), row_pairs_((d_ + 1) / 2),
        key_pairs_((frames_ + 1) / 2), out_stride_(whole_pair_panels(d_)),
        score_stride_(whole_pair_panels(std::min(frames_, kIntegerKeyBlock))), key_panels_(whole_pair_panels(frames_) * row_pairs_),
        value_panels_(key_pairs_ * out_stride_), key_scales_(whole_pair_panels(frames_)), value_scales_(out_stride_), row_(d_),
        queries_(kQueryRows * row_stride_), powers_(kQueryRows * score_stride_), scores_(kQueryRows * score_stride_),
        sums_(kQueryRows * out_stride_) {
    pack_keys();
    pack_values();
  }

  void run(float* out, float* log_sum) {
    for (int64_t begin = unit_.begin; begin < unit_.end; begin += kQueryRows) {
      rows(begin, std::min(kQueryRows, unit_.end - begin), out, log_sum);
    }
  }

 private:
  void pack_keys() {
    const int64_t width = p_.key_width();
    const float* keys = p_.key + first_ * width + source_;
    Scratch<int16_t> codes(row_stride_);
    int32_t* panel = key_panels_.data();
    for (int64_t first = 0; first < frames_; first += kPairPanel, panel += row_pairs_ * kPairPanel) {
      for (int64_t i = 0; i < kPairPanel; ++i) {
        const bool present = first + i < frames_;
        if (present) {
          rotate_row(p_, keys + (first + i) * width, first + i, 1.0f, row_.data());
          key_scales_[first + i] = round_row(row_.data(), d_, codes.data());
        } else {
          key_scales_[first + i] = 0.0f;
        }
        for (int64_t pair = 0; pair < row_pairs_; ++pair) {
          int32_t both = 0;
          if (present) std::memcpy(&both, codes.data() + 2 * pair, sizeof both);
          panel[pair * kPairPanel + i] = both;
        }
      }
    }
  }

  void pack_values() {
    const int64_t width = p_.key_width();
    const float* values = p_.value + first_ * width + source_;
    std::fill_n(value_scales_.data(), out_stride_, 0.0f);
    for (int64_t column = 0; column < out_stride_; column += Vector::kLanes) {
      const int64_t lanes = std::clamp<int64_t>(d_ - column, 0, Vector::kLanes);
      int32_t* to = value_panels_.data() + column / kPairPanel * key_pairs_ * kPairPanel + column % kPairPanel;
      if (lanes == 0) {
        for (int64_t pair = 0; pair < key_pairs_; ++pair) PairVector::zero().store(to + pair * kPairPanel);
        continue;
      }
      const auto load = [&](int64_t frame) {
        return frame < frames_ ? Vector::load(values + frame * width + column, lanes) : Vector::zero();
      };
      Vector largest = Vector::zero(), nothing = Vector::zero();
      for (int64_t t = 0; t < frames_; ++t) {
        largest = maximum(largest, absolute(load(t)));
        nothing = nothing + load(t) * Vector::zero();
      }
      // A sum of 0 * x is NaN unless all x are finite.
      float most[Vector::kLanes], zeros[Vector::kLanes], inverses[Vector::kLanes];
      largest.store(most);
      nothing.store(zeros);
      for (int64_t i = 0; i < Vector::kLanes; ++i) {
        const Rounding rounding = rounding_of(most[i], zeros[i] == 0.0f, kLargestValueCode);
        value_scales_[column + i] = rounding.scale;
        inverses[i] = rounding.inverse;
      }
      const Vector inverse = Vector::load(inverses);
      for (int64_t pair = 0; pair < key_pairs_; ++pair) {
        const auto code = [&](int64_t frame) { return PairVector::nearest(load(frame) * inverse); };
        PairVector::of(code(2 * pair), code(2 * pair + 1)).store(to + pair * kPairPanel);
      }
    }
  }

  void rows(int64_t begin, int64_t count, float* out, float* log_sum) {
    const int64_t stride = p_.query_width(), at = (first_ + begin) * stride + unit_.head * d_;
    float query_scales[kQueryRows];
    for (int64_t r = 0; r < count; ++r) {
      rotate_row(p_, p_.query + at + r * stride, begin + r, p_.scale, row_.data());
      query_scales[r] = round_row(row_.data(), d_, queries_.data() + r * row_stride_);
    }
    IntegerSoftmax states[kQueryRows];
    float ones[kQueryRows];
    std::fill_n(ones, count, 1.0f);
    for (int64_t key = 0; key < frames_; key += kIntegerKeyBlock) {
      const int64_t width = std::min(kIntegerKeyBlock, frames_ - key);
      multiply_pairs({.a = queries_.data(), .a_stride = row_stride_, .rows = count, .pairs = row_pairs_,
                      .panels = key_panels_.data() + key * row_pairs_, .panel_stride = row_pairs_ * kPairPanel, .columns = width,
                      .row_scales = query_scales, .column_scales = key_scales_.data() + key,
                      .c = scores_.data(), .c_stride = score_stride_, .accumulate = false});
      for (int64_t r = 0; r < count; ++r) {
        const float rescale = states[r].add(scores_.data() + r * score_stride_, width, powers_.data() + r * score_stride_);
        if (key == 0) continue;
        float* sums = sums_.data() + r * out_stride_;
        for (int64_t i = 0; i < d_; ++i) sums[i] *= rescale;
      }
      multiply_pairs({.a = powers_.data(), .a_stride = score_stride_, .rows = count, .pairs = (width + 1) / 2,
                      .panels = value_panels_.data() + key / 2 * kPairPanel, .panel_stride = key_pairs_ * kPairPanel, .columns = d_,
                      .row_scales = ones, .column_scales = value_scales_.data(),
                      .c = sums_.data(), .c_stride = out_stride_, .accumulate = key != 0});
    }
    for (int64_t r = 0; r < count; ++r) {
      const Vector factor = Vector::all(1.0f / states[r].sum);
      for_each_vector(d_, [&](int64_t i, int64_t lanes) {
        (factor * Vector::load(sums_.data() + r * out_stride_ + i, lanes)).store(out + at + r * stride + i, lanes);
      });
      if (log_sum) {
        const float sum = states[r].sum / static_cast<float>(kLargestPowerCode);
        log_sum[(first_ + begin + r) * p_.heads + unit_.head] = states[r].maximum + std::log(sum);
      }
    }
  }

  const AttentionProblem& p_;
  const AttentionUnit unit_;
  const int64_t first_, frames_, d_, source_;
  const int64_t row_stride_, row_pairs_;  // of codes of a query or key
  const int64_t key_pairs_;               // of the sequence
  const int64_t out_stride_, score_stride_;
  Scratch<int32_t> key_panels_;    // panels of (head_dim, frames)
  Scratch<int32_t> value_panels_;  // panels of (frames, head_dim)
  Scratch<float> key_scales_, value_scales_;
  Scratch<float> row_;
  Scratch<int16_t> queries_, powers_;  // (kQueryRows, ..)
  Scratch<float> scores_, sums_;
};

}  // namespace

void integer_attention(const AttentionProblem& p, float* out, float* log_sum) {
  const std::vector<AttentionUnit> units = attention_units(p, p.heads, rows_of_unit(p.sequences, p.heads));
  parallel_dynamic(static_cast<int64_t>(units.size()), [&](int64_t index) { Unit(p, units[index]).run(out, log_sum); });
}

}  // namespace usmlite::cpu::USMLITE_ISA
