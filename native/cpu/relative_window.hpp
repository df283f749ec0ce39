// Which keys the query rows of a unit of relative attention see, and which distances lie between them.
#pragma once
#include <algorithm>

#include "cpu/attention_head.hpp"
#include "cpu/relative_attention.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// Query rows that share one copy of a head's keys, values and positions.
inline constexpr int64_t kRelativeUnitRows = 480;

class RelativeWindow {
 public:
  RelativeWindow(const RelativeAttentionProblem& p, const AttentionUnit& unit)
      : p_(p), unit_(unit), frames_(p.offsets[unit.sequence + 1] - p.offsets[unit.sequence]),
        key_begin_(p.left < 0 ? 0 : std::max<int64_t>(0, unit.begin - p.left)),
        key_end_(p.right < 0 ? frames_ : std::min(frames_, unit.end + p.right)) {}

  /// What any row of the unit sees; keys count from here.
  int64_t key_begin() const { return key_begin_; }
  int64_t keys() const { return key_end_ - key_begin_; }
  /// Between any row and any key.
  int64_t distances() const { return unit_.end - unit_.begin + keys() - 1; }
  /// Row of `positions` for the n-th of these, the first of which lies between the unit's last row and its first key; null beyond the
  /// table, outside of the window of every frame.
  const float* position(int64_t n) const {
    const int64_t row = p_.origin - (unit_.end - 1) + key_begin_ + n;
    return row < 0 || row >= p_.position_rows ? nullptr : p_.positions + row * p_.query_width() + unit_.head * p_.head_dim;
  }
  /// Of distances, for the last of `count` rows from `begin` on and a key.
  int64_t distance(int64_t begin, int64_t count, int64_t key) const { return unit_.end - begin - count + key; }
  /// The first key that rows from `begin` on see, or one before it: a multiple of `step`.
  int64_t first_seen(int64_t begin, int64_t step) const {
    return p_.left < 0 ? 0 : std::max<int64_t>(0, begin - p_.left - key_begin_) / step * step;
  }
  /// Behind the last key that `count` rows from `begin` on see.
  int64_t last_seen(int64_t begin, int64_t count) const {
    return p_.right < 0 ? keys() : std::min(keys(), begin + count + p_.right - key_begin_);
  }

  struct Range {
    int64_t from, to;
  };
  /// What a row sees of the keys [key, key + width), counted from `key`.
  Range seen_by(int64_t row, int64_t key, int64_t width) const {
    const int64_t itself = row - key_begin_ - key;
    const int64_t from = p_.left < 0 ? 0 : std::clamp<int64_t>(itself - p_.left, 0, width);
    return {from, p_.right < 0 ? width : std::clamp<int64_t>(itself + p_.right + 1, from, width)};
  }

 private:
  const RelativeAttentionProblem& p_;
  const AttentionUnit unit_;
  const int64_t frames_, key_begin_, key_end_;
};

}  // namespace usmlite::cpu::USMLITE_ISA
