#include <cmath>

#include "cpu/attention_head.hpp"
#include "cpu/running_softmax.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

void forward_unit(const AttentionProblem& p, const AttentionUnit& unit, float* out, float* log_sum) {
  const int64_t first = p.offsets[unit.sequence], frames = p.offsets[unit.sequence + 1] - first;
  const int64_t d = p.head_dim, source = unit.head / (p.heads / p.key_value_heads);
  const int64_t out_stride = whole_panels(d), score_stride = whole_panels(std::min(frames, kKeyBlock));
  const float* keys = p.key + first * p.key_width() + source * d;
  const float* values = p.value + first * p.key_width() + source * d;

  Scratch<float> rotated(frames * d), key_panels(whole_panels(frames) * d), value_panels(frames * out_stride);
  for (int64_t t = 0; t < frames; ++t) rotate_row(p, keys + t * p.key_width(), t, 1.0f, rotated.data() + t * d);
  pack_transposed(rotated.data(), d, frames, d, key_panels.data());
  pack_rows(values, p.key_width(), frames, d, value_panels.data());

  Scratch<float> query(kQueryRows * d), scores(kQueryRows * score_stride), sums(kQueryRows * out_stride);
  const DropoutMask mask(p.dropout);
  for (int64_t begin = unit.begin; begin < unit.end; begin += kQueryRows) {
    const int64_t rows = std::min(kQueryRows, unit.end - begin);
    for (int64_t r = 0; r < rows; ++r) {
      rotate_row(p, p.query + (first + begin + r) * p.query_width() + unit.head * d, begin + r, p.scale,
                 query.data() + r * d);
    }
    RunningSoftmax states[kQueryRows];
    for (int64_t key = 0; key < frames; key += kKeyBlock) {
      const int64_t width = std::min(kKeyBlock, frames - key);
      panel_product({query.data(), d}, rows, d, key_panels.data() + key * d, d * kPanel, width, scores.data(),
                    score_stride, false);
      for (int64_t r = 0; r < rows; ++r) {
        const uint64_t index = p.dropout_index(first + begin + r, unit.head) + key;
        const float rescale = states[r].add(scores.data() + r * score_stride, width, mask, index);
        if (key == 0) continue;
        for (int64_t i = 0; i < d; ++i) sums[r * out_stride + i] *= rescale;
      }
      panel_product({scores.data(), score_stride}, rows, width, value_panels.data() + key * kPanel, frames * kPanel, d,
                    sums.data(), out_stride, key != 0);
    }
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t row = first + begin + r;
      const Vector factor = Vector::all(1.0f / states[r].sum);
      float* to = out + row * p.query_width() + unit.head * d;
      for_each_vector(d, [&](int64_t i, int64_t lanes) {
        (factor * Vector::load(sums.data() + r * out_stride + i, lanes)).store(to + i, lanes);
      });
      if (log_sum) log_sum[row * p.heads + unit.head] = states[r].maximum + std::log(states[r].sum);
    }
  }
}

}  // namespace

void attention_forward(const AttentionProblem& p, float* out, float* log_sum) {
  const std::vector<AttentionUnit> units = attention_units(p, p.heads, rows_of_unit(p.sequences, p.heads));
  parallel_dynamic(static_cast<int64_t>(units.size()),
                   [&](int64_t index) { forward_unit(p, units[index], out, log_sum); });
}

}  // namespace usmlite::cpu::USMLITE_ISA
