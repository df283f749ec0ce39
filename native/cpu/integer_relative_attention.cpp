#include "cpu/integer_relative_attention.hpp"

#include "cpu/integer_attention_head.hpp"
#include "cpu/relative_window.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// Query rows [unit.begin, unit.end) of one sequence and head.
class IntegerRelativeUnit {
 public:
  IntegerRelativeUnit(const RelativeAttentionProblem& p, const AttentionUnit& unit)
      : p_(p), unit_(unit), window_(p, unit), first_(p.offsets[unit.sequence]), d_(p.head_dim), keys_(window_.keys()),
        distances_(window_.distances()), row_stride_(whole_vectors(d_)), row_pairs_((d_ + 1) / 2), key_pairs_((keys_ + 1) / 2),
        out_stride_(whole_pair_panels(d_)), score_stride_(whole_pair_panels(std::min(keys_, kIntegerKeyBlock))),
        position_stride_(score_stride_ + 2 * kPairPanel + whole_pair_panels(kQueryRows)),
        key_panels_(whole_pair_panels(keys_) * row_pairs_), value_panels_(key_pairs_ * out_stride_),
        position_panels_(whole_pair_panels(distances_) * row_pairs_), key_scales_(whole_pair_panels(keys_)),
        value_scales_(out_stride_), position_scales_(whole_pair_panels(distances_)), row_(d_), content_(kQueryRows * row_stride_),
        positional_(kQueryRows * row_stride_), powers_(kQueryRows * (score_stride_ + Vector::kLanes)),
        scores_(kQueryRows * score_stride_), position_scores_(kQueryRows * position_stride_), sums_(kQueryRows * out_stride_) {
    const int64_t width = p.key_width(), at = (first_ + window_.key_begin()) * width + unit.head / (p.heads / p.key_value_heads) * d_;
    pack_pair_rows(keys_, d_, [&](int64_t t) { return p.key + at + t * width; }, key_panels_.data(), key_scales_.data());
    pack_pair_columns(p.value + at, width, keys_, d_, value_panels_.data(), value_scales_.data());
    pack_positions();
  }

  void run(float* out) {
    for (int64_t begin = unit_.begin; begin < unit_.end; begin += kQueryRows) rows(begin, std::min(kQueryRows, unit_.end - begin), out);
  }

 private:
  void pack_positions() {
    std::fill_n(row_.data(), d_, 0.0f);
    const auto position = [&](int64_t n) {
      const float* row = window_.position(n);
      return row ? row : row_.data();
    };
    pack_pair_rows(distances_, d_, position, position_panels_.data(), position_scales_.data());
  }

  // codes of scale * (query + bias); returns their scale
  float round_query(const float* query, const float* bias, int16_t* codes) {
    const Vector scale = Vector::all(p_.scale);
    for_each_vector(d_, [&](int64_t i, int64_t lanes) {
      (scale * (Vector::load(query + i, lanes) + Vector::load(bias + unit_.head * d_ + i, lanes))).store(row_.data() + i, lanes);
    });
    return round_row(row_.data(), d_, codes);
  }

  void rows(int64_t begin, int64_t count, float* out) {
    const int64_t stride = p_.query_width(), at = (first_ + begin) * stride + unit_.head * d_;
    float ones[kQueryRows];
    for (int64_t r = 0; r < count; ++r) {
      const float* query = p_.query + at + r * stride;
      content_row_scales_[r] = round_query(query, p_.content_bias, content_.data() + r * row_stride_);
      positional_row_scales_[r] = round_query(query, p_.position_bias, positional_.data() + r * row_stride_);
      ones[r] = 1.0f;
    }
    IntegerSoftmax states[kQueryRows];
    const int64_t seen = window_.first_seen(begin, kPairPanel), end = window_.last_seen(begin, count);
    for (int64_t key = seen; key < end; key += kIntegerKeyBlock) {
      const int64_t width = std::min(kIntegerKeyBlock, end - key);
      block(begin, count, key, width, states);
      multiply_pairs({.a = powers_.data(), .a_stride = power_stride(), .rows = count, .pairs = (width + 1) / 2,
                      .panels = value_panels_.data() + key / 2 * kPairPanel, .panel_stride = key_pairs_ * kPairPanel, .columns = d_,
                      .row_scales = ones, .column_scales = value_scales_.data(),
                      .c = sums_.data(), .c_stride = out_stride_, .accumulate = key != seen});
    }
    for (int64_t r = 0; r < count; ++r) {
      const Vector factor = Vector::all(1.0f / states[r].sum);
      for_each_vector(d_, [&](int64_t i, int64_t lanes) {
        (factor * Vector::load(sums_.data() + r * out_stride_ + i, lanes)).store(out + at + r * stride + i, lanes);
      });
    }
  }

  // Leaves codes of exp(score - maximum) of keys [key, key + width) in powers_ and rescales sums_.
  void block(int64_t begin, int64_t count, int64_t key, int64_t width, IntegerSoftmax* states) {
    multiply_pairs({.a = content_.data(), .a_stride = row_stride_, .rows = count, .pairs = row_pairs_,
                    .panels = key_panels_.data() + key * row_pairs_, .panel_stride = row_pairs_ * kPairPanel, .columns = width,
                    .row_scales = content_row_scales_, .column_scales = key_scales_.data() + key,
                    .c = scores_.data(), .c_stride = score_stride_, .accumulate = false});
    const int64_t distance = window_.distance(begin, count, key), aligned = distance / kPairPanel * kPairPanel;
    multiply_pairs({.a = positional_.data(), .a_stride = row_stride_, .rows = count, .pairs = row_pairs_,
                    .panels = position_panels_.data() + aligned * row_pairs_, .panel_stride = row_pairs_ * kPairPanel,
                    .columns = distance - aligned + width + count - 1, .row_scales = positional_row_scales_,
                    .column_scales = position_scales_.data() + aligned,
                    .c = position_scores_.data(), .c_stride = position_stride_, .accumulate = false});
    for (int64_t r = 0; r < count; ++r) {
      float* scores = scores_.data() + r * score_stride_;
      const float* positions = position_scores_.data() + r * position_stride_ + (distance - aligned) + (count - 1 - r);
      for_each_vector(width, [&](int64_t i, int64_t lanes) {
        (Vector::load(scores + i, lanes) + Vector::load(positions + i, lanes)).store(scores + i, lanes);
      });
      const auto [from, to] = window_.seen_by(begin + r, key, width);
      int16_t* powers = powers_.data() + r * power_stride();
      if (to - from < width) std::fill_n(powers, power_stride(), int16_t{0});
      if (from == to) continue;
      const float rescale = states[r].add(scores + from, to - from, powers + from);
      for (int64_t i = 0; i < d_; ++i) sums_.data()[r * out_stride_ + i] *= rescale;
    }
  }

  int64_t power_stride() const { return score_stride_ + Vector::kLanes; }  // a window's codes may begin anywhere

  const RelativeAttentionProblem& p_;
  const AttentionUnit unit_;
  const RelativeWindow window_;
  const int64_t first_, d_, keys_, distances_;
  const int64_t row_stride_, row_pairs_;  // of codes of a query, key or position
  const int64_t key_pairs_;
  const int64_t out_stride_, score_stride_, position_stride_;
  Scratch<int32_t> key_panels_, value_panels_, position_panels_;
  Scratch<float> key_scales_, value_scales_, position_scales_;
  Scratch<float> row_;
  Scratch<int16_t> content_, positional_;  // codes of scale * (q + u), scale * (q + v)
  float content_row_scales_[kQueryRows], positional_row_scales_[kQueryRows];
  Scratch<int16_t> powers_;
  Scratch<float> scores_, position_scores_, sums_;
};

}  // namespace

void integer_relative_attention(const RelativeAttentionProblem& p, float* out) {
  const std::vector<AttentionUnit> units = attention_units(p, p.heads, kRelativeUnitRows);
  parallel_dynamic(static_cast<int64_t>(units.size()), [&](int64_t index) { IntegerRelativeUnit(p, units[index]).run(out); });
}

}  // namespace usmlite::cpu::USMLITE_ISA
