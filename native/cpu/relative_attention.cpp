#include "cpu/relative_attention.hpp"

#include "core/thread_pool.hpp"
#include "cpu/attention_head.hpp"
#include "cpu/running_softmax.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// Query rows whose scores against one block of keys are held at a time.
constexpr int64_t kQueryRows = 24;
// Query rows that share one copy of a head's keys, values and positions.
constexpr int64_t kUnitRows = 480;

// to(head_dim) = factor * (row + bias)
void biased_row(const float* row, const float* bias, float factor, int64_t head_dim, float* to) {
  const Vector scale = Vector::all(factor);
  for_each_vector(head_dim, [&](int64_t i, int64_t lanes) {
    (scale * (Vector::load(row + i, lanes) + Vector::load(bias + i, lanes))).store(to + i, lanes);
  });
}

// Query rows [unit.begin, unit.end) of one sequence and head.
class Unit {
 public:
  Unit(const RelativeAttentionProblem& p, const AttentionUnit& unit)
      : p_(p), unit_(unit), first_(p.offsets[unit.sequence]), frames_(p.offsets[unit.sequence + 1] - first_), d_(p.head_dim),
        key_begin_(p.left < 0 ? 0 : std::max<int64_t>(0, unit.begin - p.left)),
        key_end_(p.right < 0 ? frames_ : std::min(frames_, unit.end + p.right)), keys_(key_end_ - key_begin_),
        distances_(unit.end - unit.begin + keys_ - 1), out_stride_(whole_panels(d_)),
        score_stride_(whole_panels(std::min(keys_, kKeyBlock))), position_stride_(score_stride_ + 2 * kPanel + whole_panels(kQueryRows)),
        key_panels_(whole_panels(keys_) * d_), value_panels_(keys_ * out_stride_),
        position_panels_(whole_panels(distances_) * d_), content_(kQueryRows * d_), positional_(kQueryRows * d_),
        scores_(kQueryRows * score_stride_), position_scores_(kQueryRows * position_stride_), sums_(kQueryRows * out_stride_) {
    const int64_t source = unit.head / (p.heads / p.key_value_heads) * d_, at = (first_ + key_begin_) * p.key_width() + source;
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
  // Column n of the panels is the position of the distance between the unit's last row and its key n, or less.
  void pack_positions() {
    const int64_t from = p_.origin - (unit_.end - 1) + key_begin_, width = p_.query_width();
    Scratch<float> rows(distances_ * d_);
    for (int64_t n = 0; n < distances_; ++n) {
      const int64_t row = from + n;
      // Distances beyond the table lie outside of the window of every frame.
      if (row < 0 || row >= p_.position_rows) std::fill_n(rows.data() + n * d_, d_, 0.0f);
      else std::copy_n(p_.positions + row * width + unit_.head * d_, d_, rows.data() + n * d_);
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
    const int64_t seen = p_.left < 0 ? 0 : std::max<int64_t>(0, begin - p_.left - key_begin_) / kPanel * kPanel;
    const int64_t end = p_.right < 0 ? keys_ : std::min(keys_, begin + count + p_.right - key_begin_);
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
    const int64_t distance = unit_.end - begin - count + key;  // column of the last row's first key
    const int64_t aligned = distance / kPanel * kPanel;
    panel_product({positional_.data(), d_}, count, d_, position_panels_.data() + aligned * d_, d_ * kPanel,
                  distance - aligned + width + count - 1, position_scores_.data(), position_stride_, false);
    for (int64_t r = 0; r < count; ++r) {
      float* scores = scores_.data() + r * score_stride_;
      const float* positions = position_scores_.data() + r * position_stride_ + (distance - aligned) + (count - 1 - r);
      for_each_vector(width, [&](int64_t i, int64_t lanes) {
        (Vector::load(scores + i, lanes) + Vector::load(positions + i, lanes)).store(scores + i, lanes);
      });
      const int64_t row = begin + r - key_begin_ - key;  // the frame itself, counted from the first key of the block
      const int64_t from = p_.left < 0 ? 0 : std::clamp<int64_t>(row - p_.left, 0, width);
      const int64_t to = p_.right < 0 ? width : std::clamp<int64_t>(row + p_.right + 1, from, width);
      std::fill(scores, scores + from, 0.0f);
      std::fill(scores + to, scores + width, 0.0f);
      if (from == to) continue;
      const float rescale = states[r].add(scores + from, to - from);
      for (int64_t i = 0; i < d_; ++i) sums_.data()[r * out_stride_ + i] *= rescale;
    }
  }

  const RelativeAttentionProblem& p_;
  const AttentionUnit unit_;
  const int64_t first_, frames_, d_;
  const int64_t key_begin_, key_end_, keys_;  // what any row of the unit sees
  const int64_t distances_;                   // between any row and any key
  const int64_t out_stride_, score_stride_, position_stride_;
  Scratch<float> key_panels_, value_panels_, position_panels_;
  Scratch<float> content_, positional_;  // scale * (q + u), scale * (q + v)
  Scratch<float> scores_, position_scores_, sums_;
};

}  // namespace

void relative_attention(const RelativeAttentionProblem& p, float* out) {
  const std::vector<AttentionUnit> units = attention_units(p, p.heads, kUnitRows);
  parallel_dynamic(static_cast<int64_t>(units.size()), [&](int64_t index) { Unit(p, units[index]).run(out); });
}

}  // namespace usmlite::cpu::USMLITE_ISA
