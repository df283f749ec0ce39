#include "cpu/integer_attention.hpp"

#include <cmath>

#include "cpu/attention_head.hpp"
#include "cpu/integer_attention_head.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// Query rows [unit.begin, unit.end) of one sequence and head.
class IntegerUnit {
 public:
  IntegerUnit(const AttentionProblem& p, const AttentionUnit& unit)
      : p_(p), unit_(unit), first_(p.offsets[unit.sequence]), frames_(p.offsets[unit.sequence + 1] - first_), d_(p.head_dim),
        source_(unit.head / (p.heads / p.key_value_heads) * d_), row_stride_(whole_vectors(d_)), row_pairs_((d_ + 1) / 2),
        key_pairs_((frames_ + 1) / 2), out_stride_(whole_pair_panels(d_)),
        score_stride_(whole_pair_panels(std::min(frames_, kIntegerKeyBlock))), key_panels_(whole_pair_panels(frames_) * row_pairs_),
        value_panels_(key_pairs_ * out_stride_), key_scales_(whole_pair_panels(frames_)), value_scales_(out_stride_), row_(d_),
        queries_(kQueryRows * row_stride_), powers_(kQueryRows * score_stride_), scores_(kQueryRows * score_stride_),
        sums_(kQueryRows * out_stride_) {
    const int64_t width = p.key_width(), at = first_ * width + source_;
    const auto rotated_key = [&](int64_t t) {
      rotate_row(p, p.key + at + t * width, t, 1.0f, row_.data());
      return row_.data();
    };
    pack_pair_rows(frames_, d_, rotated_key, key_panels_.data(), key_scales_.data());
    pack_pair_columns(p.value + at, width, frames_, d_, value_panels_.data(), value_scales_.data());
  }

  void run(float* out, float* log_sum) {
    for (int64_t begin = unit_.begin; begin < unit_.end; begin += kQueryRows) {
      rows(begin, std::min(kQueryRows, unit_.end - begin), out, log_sum);
    }
  }

 private:
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
  parallel_dynamic(static_cast<int64_t>(units.size()), [&](int64_t index) { IntegerUnit(p, units[index]).run(out, log_sum); });
}

}  // namespace usmlite::cpu::USMLITE_ISA
