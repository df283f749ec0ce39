// What the forward and backward passes of attention share: one head's rows, rotated and copied into panels.
#pragma once
#include <algorithm>
#include <limits>
#include <vector>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/attention.hpp"
#include "cpu/panel_product.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// Keys of a block of scores; a whole number of panels. Sequences up to this long need no second block.
inline constexpr int64_t kKeyBlock = 512;
/// Query rows whose scores against one block of keys are held at a time: 24 x 512 floats, 48 KB.
inline constexpr int64_t kQueryRows = 24;

/// to(head_dim) = the row rotated by `position` and times `factor`
inline void rotate_row(const AttentionProblem& p, const float* from, int64_t position, float factor, float* to) {
  const Vector scale = Vector::all(factor);
  if (!p.rotary) {
    for_each_vector(p.head_dim, [&](int64_t i, int64_t lanes) { (scale * Vector::load(from + i, lanes)).store(to + i, lanes); });
    return;
  }
  const int64_t half = p.head_dim / 2;
  const float* cosine = p.rotary->cosine.data() + position * half;
  const float* sine = p.rotary->sine.data() + position * half;
  for_each_vector(half, [&](int64_t i, int64_t lanes) {
    const Vector c = scale * Vector::load(cosine + i, lanes), s = scale * Vector::load(sine + i, lanes);
    const Vector first = Vector::load(from + i, lanes), second = Vector::load(from + half + i, lanes);
    (first * c - second * s).store(to + i, lanes);
    (second * c + first * s).store(to + half + i, lanes);
  });
}

/// The inverse rotation, times `factor`: takes the gradient of a rotated row to that of the row.
inline void unrotate_row(const AttentionProblem& p, const float* from, int64_t position, float factor, float* to) {
  if (!p.rotary) return rotate_row(p, from, position, factor, to);
  const Vector scale = Vector::all(factor);
  const int64_t half = p.head_dim / 2;
  const float* cosine = p.rotary->cosine.data() + position * half;
  const float* sine = p.rotary->sine.data() + position * half;
  for_each_vector(half, [&](int64_t i, int64_t lanes) {
    const Vector c = scale * Vector::load(cosine + i, lanes), s = scale * Vector::load(sine + i, lanes);
    const Vector first = Vector::load(from + i, lanes), second = Vector::load(from + half + i, lanes);
    (first * c + second * s).store(to + i, lanes);
    (second * c - first * s).store(to + half + i, lanes);
  });
}

/// rows(frames, stride) of head_dim values -> panels of a (frames, head_dim) matrix, each (frames, kPanel).
inline void pack_rows(const float* rows, int64_t stride, int64_t frames, int64_t head_dim, float* panels) {
  for (int64_t column = 0; column < head_dim; column += kPanel, panels += frames * kPanel) {
    const int64_t width = std::min(kPanel, head_dim - column);
    for (int64_t t = 0; t < frames; ++t) {
      const float* from = rows + t * stride + column;
      float* to = panels + t * kPanel;
      for (int64_t i = 0; i < width; ++i) to[i] = from[i];
      for (int64_t i = width; i < kPanel; ++i) to[i] = 0.0f;
    }
  }
}

/// rows(frames, stride) of head_dim values -> panels of its transpose (head_dim, frames), each (head_dim, kPanel).
inline void pack_transposed(const float* rows, int64_t stride, int64_t frames, int64_t head_dim, float* panels) {
  for (int64_t first = 0; first < frames; first += kPanel, panels += head_dim * kPanel) {
    const int64_t width = std::min(kPanel, frames - first);
    for (int64_t i = 0; i < width; ++i) {
      const float* from = rows + (first + i) * stride;
      for (int64_t d = 0; d < head_dim; ++d) panels[d * kPanel + i] = from[d];
    }
    for (int64_t i = width; i < kPanel; ++i) {
      for (int64_t d = 0; d < head_dim; ++d) panels[d * kPanel + i] = 0.0f;
    }
  }
}

/// Query rows that share one copy of a head's keys and values: all of a sequence, where that leaves every thread as much to do.
inline int64_t rows_of_unit(int64_t sequences, int64_t heads) {
  const int64_t units = sequences * heads, threads = thread_count();
  return units % threads == 0 || units >= 4 * threads ? std::numeric_limits<int32_t>::max() : 480;
}

/// A piece of work: query rows [begin, end) of a sequence, one head (or one key and value head).
struct AttentionUnit {
  int64_t sequence, head, begin, end;
};

/// Pieces of at most `rows` query rows for each of `heads` heads, longest sequences first so that threads finish
/// together.
inline std::vector<AttentionUnit> attention_units(const AttentionProblem& p, int64_t heads, int64_t rows) {
  std::vector<int64_t> order(p.sequences);
  for (int64_t i = 0; i < p.sequences; ++i) order[i] = i;
  const auto length = [&](int64_t i) { return p.offsets[i + 1] - p.offsets[i]; };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return length(a) > length(b); });
  std::vector<AttentionUnit> units;
  for (int64_t sequence : order) {
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t begin = 0; begin < length(sequence); begin += rows) {
        units.push_back({sequence, head, begin, std::min<int64_t>(begin + rows, length(sequence))});
      }
    }
  }
  return units;
}

}  // namespace usmlite::cpu::USMLITE_ISA
