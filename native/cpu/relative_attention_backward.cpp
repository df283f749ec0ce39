// The scores of a head are computed again for all pairs of frames of one sequence. With the scores' gradients moved from
// (frame, frame) to (frame, distance), everything is a matrix product.
#include "cpu/relative_attention.hpp"

#include <algorithm>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/dot.hpp"
#include "cpu/matmul.hpp"
#include "cpu/running_softmax.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// x (count) becomes softmax(x)
void softmax_row(float* x, int64_t count) {
  RunningSoftmax softmax;
  softmax.add(x, count);
  const Vector factor = Vector::all(1.0f / softmax.sum);
  for_each_vector(count, [&](int64_t i, int64_t lanes) { (factor * Vector::load(x + i, lanes)).store(x + i, lanes); });
}

// One query head of one sequence.
class BackwardHead {
 public:
  BackwardHead(const RelativeAttentionProblem& p, int64_t sequence, int64_t head)
      : p_(p), head_(head), first_(p.offsets[sequence]), frames_(p.offsets[sequence + 1] - first_), d_(p.head_dim),
        left_(p.left < 0 ? frames_ - 1 : std::min(p.left, frames_ - 1)), right_(p.right < 0 ? frames_ - 1 : std::min(p.right, frames_ - 1)),
        distances_(left_ + right_ + 1), at_(first_ * p.query_width() + head * d_),
        key_at_(first_ * p.key_width() + head / (p.heads / p.key_value_heads) * d_),
        position_at_((p.origin - left_) * p.query_width() + head * d_), content_(frames_ * d_), place_(frames_ * d_),
        probabilities_(frames_ * frames_), scores_(frames_ * frames_), by_distance_(frames_ * distances_), part_(frames_ * d_) {}

  /// @param adds whether gradients of key and value are there already, from another head that reads them
  void run(const float* out, const float* gradient, const RelativeAttentionGradients& gradients, bool adds) {
    const int64_t width = p_.query_width(), key_width = p_.key_width();
    biased(p_.content_bias, content_.data());
    biased(p_.position_bias, place_.data());
    fill_probabilities();
    matmul(false, true, frames_, frames_, d_, gradient + at_, width, p_.value + key_at_, key_width, 0.0f, scores_.data(), frames_);
    score_gradients(out, gradient);

    const float kept = adds ? 1.0f : 0.0f;
    matmul(true, false, frames_, d_, frames_, probabilities_.data(), frames_, gradient + at_, width, kept, gradients.value + key_at_, key_width);
    matmul(true, false, frames_, d_, frames_, scores_.data(), frames_, content_.data(), d_, kept, gradients.key + key_at_, key_width);
    matmul(true, false, distances_, d_, frames_, by_distance_.data(), distances_, place_.data(), d_, 1.0f, gradients.positions + position_at_, width);
    matmul(false, false, frames_, d_, frames_, scores_.data(), frames_, p_.key + key_at_, key_width, 0.0f, part_.data(), d_);
    to_query(gradients.query, gradients.content_bias, false);
    matmul(false, false, frames_, d_, distances_, by_distance_.data(), distances_, p_.positions + position_at_, width, 0.0f, part_.data(), d_);
    to_query(gradients.query, gradients.position_bias, true);
  }

 private:
  int64_t first_key(int64_t row) const { return std::max<int64_t>(0, row - left_); }
  int64_t last_key(int64_t row) const { return std::min(frames_, row + right_ + 1); }  // behind it
  // Column of by_distance_ for the first key that a row sees.
  int64_t first_distance(int64_t row) const { return first_key(row) - row + left_; }

  void biased(const float* bias, float* to) const {
    for (int64_t t = 0; t < frames_; ++t) {
      const float* query = p_.query + at_ + t * p_.query_width();
      for_each_vector(d_, [&](int64_t i, int64_t lanes) {
        (Vector::load(query + i, lanes) + Vector::load(bias + head_ * d_ + i, lanes)).store(to + t * d_ + i, lanes);
      });
    }
  }

  void fill_probabilities() {
    MatmulEpilogue scaled;
    scaled.scale = p_.scale;
    matmul(false, true, frames_, frames_, d_, content_.data(), d_, p_.key + key_at_, p_.key_width(), 0.0f, probabilities_.data(), frames_, scaled);
    matmul(false, true, frames_, distances_, d_, place_.data(), d_, p_.positions + position_at_, p_.query_width(), 0.0f, by_distance_.data(),
           distances_, scaled);
    for (int64_t row = 0; row < frames_; ++row) {
      const int64_t begin = first_key(row), end = last_key(row);
      float* scores = probabilities_.data() + row * frames_;
      const float* places = by_distance_.data() + row * distances_ + first_distance(row);
      for_each_vector(end - begin, [&](int64_t i, int64_t lanes) {
        (Vector::load(scores + begin + i, lanes) + Vector::load(places + i, lanes)).store(scores + begin + i, lanes);
      });
      softmax_row(scores + begin, end - begin);
      std::fill(scores, scores + begin, 0.0f);
      std::fill(scores + end, scores + frames_, 0.0f);
    }
  }

  // scores_ holds the gradients of probabilities and then those of scores, by_distance_ the same by distance.
  void score_gradients(const float* out, const float* gradient) {
    std::fill_n(by_distance_.data(), frames_ * distances_, 0.0f);
    const Vector scale = Vector::all(p_.scale);
    for (int64_t row = 0; row < frames_; ++row) {
      const int64_t at = at_ + row * p_.query_width(), begin = first_key(row), end = last_key(row);
      const Vector mean = Vector::all(dot(gradient + at, out + at, d_));
      const float* probabilities = probabilities_.data() + row * frames_;
      float* scores = scores_.data() + row * frames_;
      for_each_vector(frames_, [&](int64_t i, int64_t lanes) {
        (scale * Vector::load(probabilities + i, lanes) * (Vector::load(scores + i, lanes) - mean)).store(scores + i, lanes);
      });
      std::copy(scores + begin, scores + end, by_distance_.data() + row * distances_ + first_distance(row));
    }
  }

  // part_ goes to the query, and its sum over frames to a bias.
  void to_query(float* query, float* bias, bool adds) const {
    float* sums = bias + head_ * d_;
    for (int64_t t = 0; t < frames_; ++t) {
      float* to = query + at_ + t * p_.query_width();
      for_each_vector(d_, [&](int64_t i, int64_t lanes) {
        const Vector part = Vector::load(part_.data() + t * d_ + i, lanes);
        (adds ? Vector::load(to + i, lanes) + part : part).store(to + i, lanes);
        (Vector::load(sums + i, lanes) + part).store(sums + i, lanes);
      });
    }
  }

  const RelativeAttentionProblem& p_;
  const int64_t head_, first_, frames_, d_;
  const int64_t left_, right_, distances_;  // what a frame sees at most
  const int64_t at_, key_at_, position_at_;
  Scratch<float> content_, place_;         // (frames, d): q + u, q + v
  Scratch<float> probabilities_, scores_;  // (frames, frames)
  Scratch<float> by_distance_;             // (frames, distances)
  Scratch<float> part_;                    // (frames, d)
};

}  // namespace

void relative_attention_backward(const RelativeAttentionProblem& p, const float* out, const float* gradient,
                                 const RelativeAttentionGradients& gradients) {
  const int64_t group = p.heads / p.key_value_heads;
  // Heads share no gradient with heads of another key, so that sums over sequences have one order.
  parallel_dynamic(p.key_value_heads, [&](int64_t key_head) {
    for (int64_t sequence = 0; sequence < p.sequences; ++sequence) {
      if (p.offsets[sequence] == p.offsets[sequence + 1]) continue;
      for (int64_t head = key_head * group; head < (key_head + 1) * group; ++head) {
        BackwardHead(p, sequence, head).run(out, gradient, gradients, head != key_head * group);
      }
    }
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
