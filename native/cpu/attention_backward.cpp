#include "core/thread_pool.hpp"
#include "cpu/attention_head.hpp"
#include "cpu/dot.hpp"
#include "cpu/dropout_mask.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// Query rows whose scores against one block of keys are held at a time, twice: 2 x 48 x 512 floats, 192 KB.
constexpr int64_t kGradientQueryRows = 48;

// Turns a row of scores into dropped-out probabilities, and a row of their gradients into gradients of the scores:
// p (m g - mean) with mean = sum_j p_j m_j g_j, which is gradient . out of this row (Dao et al. 2022). Scores that integer_attention rounded
// may have come out below what they are here: no probability is more than 1.
void softmax_backward_row(float* scores, float* gradients, int64_t keys, float log_sum, float mean, const DropoutMask& mask,
                          uint64_t index) {
  const Vector shift = Vector::all(log_sum), centre = Vector::all(mean);
  for_each_masked(mask, index, keys, [&](int64_t i, int64_t lanes, Vector multiplier) __attribute__((always_inline)) {
    const Vector probability = exponential(minimum(Vector::zero(), Vector::load(scores + i, lanes) - shift));
    const Vector gradient = multiplier * Vector::load(gradients + i, lanes);
    (probability * multiplier).store(scores + i, lanes);
    (probability * (gradient - centre)).store(gradients + i, lanes);
  });
}

// One key and value head of one sequence, with all the query heads that read it.
class BackwardUnit {
 public:
  BackwardUnit(const AttentionProblem& p, const AttentionUnit& unit)
      : p_(p), first_(p.offsets[unit.sequence]), frames_(unit.end), head_(unit.head), d_(p.head_dim),
        width_(whole_panels(d_)), score_stride_(whole_panels(std::min(frames_, kKeyBlock))),
        rotated_key_(frames_ * d_), key_transposed_(whole_panels(frames_) * d_),
        value_transposed_(whole_panels(frames_) * d_), key_panels_(frames_ * width_), key_sums_(frames_ * width_),
        value_sums_(frames_ * width_), query_(kGradientQueryRows * d_), query_panels_(kGradientQueryRows * width_),
        out_panels_(kGradientQueryRows * width_), query_sums_(kGradientQueryRows * width_), scores_(kGradientQueryRows * score_stride_),
        gradients_(kGradientQueryRows * score_stride_) {}

  void run(const float* out, const float* log_sum, const float* gradient, float* gradient_query, float* gradient_key,
           float* gradient_value) {
    const int64_t key_width = p_.key_width(), at = first_ * key_width + head_ * d_;
    for (int64_t t = 0; t < frames_; ++t) {
      rotate_row(p_, p_.key + at + t * key_width, t, 1.0f, rotated_key_.data() + t * d_);
    }
    pack_transposed(rotated_key_.data(), d_, frames_, d_, key_transposed_.data());
    pack_rows(rotated_key_.data(), d_, frames_, d_, key_panels_.data());
    pack_transposed(p_.value + at, key_width, frames_, d_, value_transposed_.data());
    std::fill_n(key_sums_.data(), frames_ * width_, 0.0f);
    std::fill_n(value_sums_.data(), frames_ * width_, 0.0f);

    const int64_t group = p_.heads / p_.key_value_heads;
    for (int64_t head = head_ * group; head < (head_ + 1) * group; ++head) {
      for (int64_t begin = 0; begin < frames_; begin += kGradientQueryRows) {
        query_block(head, begin, std::min(kGradientQueryRows, frames_ - begin), out, log_sum, gradient, gradient_query);
      }
    }
    for (int64_t t = 0; t < frames_; ++t) {
      unrotate_row(p_, key_sums_.data() + t * width_, t, 1.0f, gradient_key + at + t * key_width);
      std::copy_n(value_sums_.data() + t * width_, d_, gradient_value + at + t * key_width);
    }
  }

 private:
  void query_block(int64_t head, int64_t begin, int64_t rows, const float* out, const float* log_sum,
                   const float* gradient, float* gradient_query) {
    const int64_t stride = p_.query_width(), at = (first_ + begin) * stride + head * d_;
    float means[kGradientQueryRows];
    for (int64_t r = 0; r < rows; ++r) {
      rotate_row(p_, p_.query + at + r * stride, begin + r, p_.scale, query_.data() + r * d_);
      means[r] = dot(gradient + at + r * stride, out + at + r * stride, d_);
    }
    pack_rows(query_.data(), d_, rows, d_, query_panels_.data());
    pack_rows(gradient + at, stride, rows, d_, out_panels_.data());
    const DropoutMask mask(p_.dropout);
    for (int64_t key = 0; key < frames_; key += kKeyBlock) {
      const int64_t keys = std::min(kKeyBlock, frames_ - key);
      panel_product({query_.data(), d_}, rows, d_, key_transposed_.data() + key * d_, d_ * kPanel, keys, scores_.data(),
                    score_stride_, false);
      panel_product({gradient + at, stride}, rows, d_, value_transposed_.data() + key * d_, d_ * kPanel, keys,
                    gradients_.data(), score_stride_, false);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t row = first_ + begin + r;
        softmax_backward_row(scores_.data() + r * score_stride_, gradients_.data() + r * score_stride_, keys,
                             log_sum[row * p_.heads + head], means[r], mask, p_.dropout_index(row, head) + key);
      }
      panel_product({scores_.data(), score_stride_, true}, keys, rows, out_panels_.data(), rows * kPanel, d_,
                    value_sums_.data() + key * width_, width_, true);
      panel_product({gradients_.data(), score_stride_, true}, keys, rows, query_panels_.data(), rows * kPanel, d_,
                    key_sums_.data() + key * width_, width_, true);
      panel_product({gradients_.data(), score_stride_}, rows, keys, key_panels_.data() + key * kPanel,
                    frames_ * kPanel, d_, query_sums_.data(), width_, key != 0);
    }
    for (int64_t r = 0; r < rows; ++r) {
      unrotate_row(p_, query_sums_.data() + r * width_, begin + r, p_.scale, gradient_query + at + r * stride);
    }
  }

  const AttentionProblem& p_;
  const int64_t first_, frames_, head_, d_;
  const int64_t width_;         // of rows of whole panels that hold head_dim values
  const int64_t score_stride_;  // of rows of scores
  Scratch<float> rotated_key_;
  Scratch<float> key_transposed_, value_transposed_;  // panels of (head_dim, frames)
  Scratch<float> key_panels_;                         // panels of (frames, head_dim)
  Scratch<float> key_sums_, value_sums_;              // (frames, width)
  Scratch<float> query_, query_panels_, out_panels_, query_sums_;
  Scratch<float> scores_, gradients_;  // (kGradientQueryRows, score_stride)
};

}  // namespace

void attention_backward(const AttentionProblem& p, const float* out, const float* log_sum, const float* gradient,
                        float* gradient_query, float* gradient_key, float* gradient_value) {
  int64_t longest = 0;
  for (int64_t i = 0; i < p.sequences; ++i) longest = std::max<int64_t>(longest, p.offsets[i + 1] - p.offsets[i]);
  const std::vector<AttentionUnit> units = attention_units(p, p.key_value_heads, std::max<int64_t>(longest, 1));
  parallel_dynamic(static_cast<int64_t>(units.size()), [&](int64_t index) {
    BackwardUnit(p, units[index]).run(out, log_sum, gradient, gradient_query, gradient_key, gradient_value);
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
