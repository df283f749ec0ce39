// Sequences advance together, longest first, so that each step is one matrix product over those that have not ended.
#include "cpu/lstm_sequence.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/lstm_cell.hpp"
#include "cpu/matmul.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kRowGrain = 8;

// Which rows of the batch are computed in each step.
class Steps {
 public:
  explicit Steps(const LstmSequence& p) : p_(p), order_(p.sequences) {
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(), [&](int64_t a, int64_t b) { return length(a) > length(b); });
  }
  int64_t count() const { return order_.empty() ? 0 : length(order_[0]); }
  /// Rows of `step`, those of the longest sequences first.
  std::vector<int64_t> rows(int64_t step) const {
    std::vector<int64_t> rows;
    for (int64_t sequence : order_) {
      if (length(sequence) <= step) break;
      rows.push_back(p_.offsets[sequence] + step);
    }
    return rows;
  }

 private:
  int64_t length(int64_t sequence) const { return p_.offsets[sequence + 1] - p_.offsets[sequence]; }
  const LstmSequence& p_;
  std::vector<int64_t> order_;
};

// Where `width` floats of each row begin.
std::vector<int64_t> starts(const std::vector<int64_t>& rows, int64_t width, int64_t shift = 0) {
  std::vector<int64_t> begins;
  for (int64_t row : rows) begins.push_back((row + shift) * width);
  return begins;
}

}  // namespace

void lstm_sequence(const LstmSequence& p, float* gates, float* hidden_states, float* cells) {
  const int64_t hidden = p.hidden;
  const Steps steps(p);
  const std::vector<float> zeros(hidden, 0.0f);
  for (int64_t step = 0; step < steps.count(); ++step) {
    const std::vector<int64_t> rows = steps.rows(step);
    const int64_t count = static_cast<int64_t>(rows.size());
    if (step > 0) {
      const std::vector<int64_t> from = starts(rows, hidden, -1), to = starts(rows, 4 * hidden);
      matmul(false, true, count, 4 * hidden, hidden, hidden_states, hidden, p.recurrent, hidden, 1.0f, gates, 4 * hidden, {},
             {from.data(), nullptr, to.data()});
    }
    parallel_for(count, kRowGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t at = rows[i] * hidden;
        lstm_cell(gates + 4 * at, step > 0 ? cells + at - hidden : zeros.data(), 1, hidden, hidden_states + at, cells + at);
      }
    });
  }
}

void lstm_sequence_backward(const LstmSequence& p, const float* gates, const float* hidden_states, const float* cells,
                            const float* gradient, float* gate_gradient, float* recurrent_gradient) {
  const int64_t hidden = p.hidden;
  const Steps steps(p);
  const std::vector<float> zeros(hidden, 0.0f);
  // Of the states that a step hands on, one row a sequence in the order of Steps; ended sequences hand on nothing.
  Scratch<float> cell_gradient(p.sequences * hidden), hidden_gradient(p.sequences * hidden);
  std::fill_n(cell_gradient.data(), p.sequences * hidden, 0.0f);
  std::fill_n(hidden_gradient.data(), p.sequences * hidden, 0.0f);
  std::vector<int64_t> later;  // rows after the first of their sequence
  for (int64_t step = steps.count() - 1; step >= 0; --step) {
    const std::vector<int64_t> rows = steps.rows(step);
    const int64_t count = static_cast<int64_t>(rows.size());
    parallel_for(count, kRowGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t at = rows[i] * hidden;
        float* above = hidden_gradient.data() + i * hidden;
        for_each_vector(hidden, [&](int64_t c, int64_t lanes) {
          (Vector::load(above + c, lanes) + Vector::load(gradient + at + c, lanes)).store(above + c, lanes);
        });
        lstm_cell_backward(gates + 4 * at, step > 0 ? cells + at - hidden : zeros.data(), cells + at, above, 1, hidden,
                           cell_gradient.data() + i * hidden, gate_gradient + 4 * at);
      }
    });
    if (step == 0) break;
    const std::vector<int64_t> from = starts(rows, 4 * hidden);
    matmul(false, false, count, hidden, 4 * hidden, gate_gradient, 4 * hidden, p.recurrent, hidden, 0.0f, hidden_gradient.data(), hidden, {},
           {from.data(), nullptr, nullptr});
    later.insert(later.end(), rows.begin(), rows.end());
  }
  if (later.empty()) {
    std::fill_n(recurrent_gradient, 4 * hidden * hidden, 0.0f);
    return;
  }
  const std::vector<int64_t> now = starts(later, 4 * hidden), before = starts(later, hidden, -1);
  matmul(true, false, 4 * hidden, hidden, static_cast<int64_t>(later.size()), gate_gradient, 4 * hidden, hidden_states, hidden, 0.0f,
         recurrent_gradient, hidden, {}, {now.data(), before.data(), nullptr});
}

}  // namespace usmlite::cpu::USMLITE_ISA
