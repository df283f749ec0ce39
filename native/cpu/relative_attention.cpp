#include "cpu/relative_attention.hpp"

#include "core/thread_pool.hpp"
#include "cpu/relative_window.hpp"
#include "cpu/running_softmax.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// to(head_dim) = factor * (row + bias)
void biased_row(const float* row, const float* bias, float factor, int64_t head_dim, float* to) {
  const Vector scale = Vector::all(factor);
  for_each_vector(head_dim, [&](int64_t i, int64_t lanes) {
    (scale * (Vector::load(row + i, lanes) + Vector::load(bias + i, lanes))).store(to + i, lanes);
  });
}

// Query rows [unit.begin, unit.end) of one sequence and head.
class RelativeUnit {
 public:
  RelativeUnit(const RelativeAttentionProblem& p, const AttentionUnit& unit)
      : p_(p), unit_(unit), window_(p, unit), first_(p.offsets[unit.sequence]), d_(p.head_dim), keys_(window_.keys()),
        distances_(window_.distances()), out_stride_(whole_panels(d_)),
        score_stride_(whole_panels(std::min(keys_, kKeyBlock))), position_stride_(score_stride_ + 2 * kPanel + whole_panels(kQueryRows)),
        key_panels_(whole_panels(keys_) * d_), value_panels_(keys_ * out_stride_),
        position_panels_(whole_panels(distances_) * d_), content_(kQueryRows * d_), positional_(kQueryRows * d_),
        scores_(kQueryRows * score_stride_), position_scores_(kQueryRows * position_stride_), sums_(kQueryRows * out_stride_) {
    const int64_t source = unit.head / (p.heads / p.key_value_heads) * d_, at = (first_ + window_.key_begin()) * p.key_width() + source;
    pack_transposed(p.key + at, p.key_width(), keys_, d_, key_panels_.data());
    pack_rows(p.value + at, p.key_width(), keys_, d_, value_panels_.data());
    pack_positions();
  }

  void run(float* out) {
    for (int64_t begin = unit_.begin; begin < unit_.end; begin += kQueryRows) {
      rows(begin, std::min(kQueryRows, unit_.end - begin), out);
    }
  }

 private:
  void pack_positions() {
    Scratch<float> rows(distances_ * d_);
    for (int64_t n = 0; n < distances_; ++n) {
      if (const float* row = window_.position(n)) std::copy_n(row, d_, rows.data() + n * d_);
      else std::fill_n(rows.data() + n * d_, d_, 0.0f);
    }
    pack_transposed(rows.data(), d_, distances_, d_, position_panels_.data());
  }

  void rows(int64_t begin, int64_t count, float* out) {
    const int64_t stride = p_.query_width();
    for (int64_t r = 0; r < count; ++r) {
      const float* query = p_.query + (first_ + begin + r) * stride + unit_.head * d_;
      biased_row(query, p_.content_bias + unit_.head * d_, p_.scale, d_, content_.data() + r * d_);
      biased_row(query, p_.position_bias + unit_.head * d_, p_.scale, d_, positional_.data() + r * d_);
    }
    RunningSoftmax states[kQueryRows];
    const int64_t seen = window_.first_seen(begin, kPanel), end = window_.last_seen(begin, count);
    for (int64_t key = seen; key < end; key += kKeyBlock) {
      const int64_t width = std::min(kKeyBlock, end - key);
      block(begin, count, key, width, states);
      panel_product({scores_.data(), score_stride_}, count, width, value_panels_.data() + key * kPanel, keys_ * kPanel, d_, sums_.data(),
                    out_stride_, key != seen);
    }
    for (int64_t r = 0; r < count; ++r) {
      const Vector factor = Vector::all(1.0f / states[r].sum);
      float* to = out + (first_ + begin + r) * stride + unit_.head * d_;
      for_each_vector(d_, [&](int64_t i, int64_t lanes) {
        (factor * Vector::load(sums_.data() + r * out_stride_ + i, lanes)).store(to + i, lanes);
      });
    }
  }

  // Leaves exp(score - maximum) of keys [key, key + width) in scores_ and rescales sums_.
  void block(int64_t begin, int64_t count, int64_t key, int64_t width, RunningSoftmax* states) {
    panel_product({content_.data(), d_}, count, d_, key_panels_.data() + key * d_, d_ * kPanel, width, scores_.data(), score_stride_, false);
    const int64_t distance = window_.distance(begin, count, key), aligned = distance / kPanel * kPanel;
    panel_product({positional_.data(), d_}, count, d_, position_panels_.data() + aligned * d_, d_ * kPanel,
                  distance - aligned + width + count - 1, position_scores_.data(), position_stride_, false);
    for (int64_t r = 0; r < count; ++r) {
      float* scores = scores_.data() + r * score_stride_;
      const float* positions = position_scores_.data() + r * position_stride_ + (distance - aligned) + (count - 1 - r);
      for_each_vector(width, [&](int64_t i, int64_t lanes) {
        (Vector::load(scores + i, lanes) + Vector::load(positions + i, lanes)).store(scores + i, lanes);
      });
      const auto [from, to] = window_.seen_by(begin + r, key, width);
      std::fill(scores, scores + from, 0.0f);
      std::fill(scores + to, scores + width, 0.0f);
      if (from == to) continue;
      const float rescale = states[r].add(scores + from, to - from);
      for (int64_t i = 0; i < d_; ++i) sums_.data()[r * out_stride_ + i] *= rescale;
    }
  }

  const RelativeAttentionProblem& p_;
  const AttentionUnit unit_;
  const RelativeWindow window_;
  const int64_t first_, d_, keys_, distances_;
  const int64_t out_stride_, score_stride_, position_stride_;
  Scratch<float> key_panels_, value_panels_, position_panels_;
  Scratch<float> content_, positional_;  // scale * (q + u), scale * (q + v)
  Scratch<float> scores_, position_scores_, sums_;
};

}  // namespace

void relative_attention(const RelativeAttentionProblem& p, float* out) {
  const std::vector<AttentionUnit> units = attention_units(p, p.heads, kRelativeUnitRows);
  parallel_dynamic(static_cast<int64_t>(units.size()), [&](int64_t index) { RelativeUnit(p, units[index]).run(out); });
}

}  // namespace usmlite::cpu::USMLITE_ISA
