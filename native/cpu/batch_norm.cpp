#include "cpu/batch_norm.hpp"

#include <algorithm>

#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// Channels are independent, so threads split them and nothing is summed across threads. A block of channels takes all
// its passes over the frames in turn: at 1500 frames, 32 channels are 192 KB and stay in the second-level cache.
constexpr int kBlockVectors = 4;
constexpr int64_t kChannelBlock = kBlockVectors * Vector::kLanes;
// Sums over time are taken in groups of frames, then over groups, so that the rounding error does not grow with time.
constexpr int64_t kFrameGroup = 64;

// `V` vectors of one value per channel: the first `lanes` of the last are real.
template <int V>
struct Channels {
  Vector at[V];

  static Channels zero() {
    Channels result;
    for (Vector& v : result.at) v = Vector::zero();
    return result;
  }
  static Channels load(const float* from, int64_t lanes) {
    Channels result;
    for (int j = 0; j < V; ++j) result.at[j] = Vector::load(from + j * Vector::kLanes, lanes);
    return result;
  }
  void store(float* to, int64_t lanes) const {
    for (int j = 0; j < V; ++j) at[j].store(to + j * Vector::kLanes, lanes);
  }
};

// Calls work.run<V>(first_channel, lanes) for all channels in parallel: blocks of kBlockVectors full vectors, and the
// rest vector by vector.
template <typename Work>
void for_each_block(int64_t frames, int64_t channels, const Work& work) {
  const int64_t full = channels / kChannelBlock, rest = channels - full * kChannelBlock;
  const int64_t units = full + (rest + Vector::kLanes - 1) / Vector::kLanes;
  const int64_t grain = std::max<int64_t>(1, 8192 / std::max<int64_t>(frames * kChannelBlock, 1));
  parallel_for(units, grain, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      if (unit < full) {
        work.template run<kBlockVectors>(unit * kChannelBlock, Vector::kLanes);
      } else {
        const int64_t first = full * kChannelBlock + (unit - full) * Vector::kLanes;
        work.template run<1>(first, std::min(Vector::kLanes, channels - first));
      }
    }
  });
}

// Adds up term(frame, vector index, sums...) in groups of frames.
template <int V, int N, typename Term>
void sum_over_frames(int64_t frames, Channels<V> (&totals)[N], const Term& term) {
  for (auto& total : totals) total = Channels<V>::zero();
  for (int64_t group = 0; group < frames; group += kFrameGroup) {
    Channels<V> partial[N];
    for (auto& sum : partial) sum = Channels<V>::zero();
    const int64_t end = std::min(group + kFrameGroup, frames);
    for (int64_t t = group; t < end; ++t) term(t, partial);
    for (int n = 0; n < N; ++n) {
      for (int j = 0; j < V; ++j) totals[n].at[j] = totals[n].at[j] + partial[n].at[j];
    }
  }
}

struct ForwardWork {
  const BatchNormForward& p;

  template <int V>
  void run(int64_t first, int64_t lanes) const {
    Channels<V> mean, reciprocal;
    if (p.training) {
      measure<V>(first, lanes, mean, reciprocal);
    } else {
      mean = Channels<V>::load(p.running_mean + first, lanes);
      reciprocal = Channels<V>::load(p.running_variance + first, lanes);
      for (Vector& v : reciprocal.at) v = reciprocal_deviation(v);
    }
    mean.store(p.mean + first, lanes);
    reciprocal.store(p.reciprocal_deviation + first, lanes);

    const auto weight = Channels<V>::load(p.weight + first, lanes), bias = Channels<V>::load(p.bias + first, lanes);
    Channels<V> scale;
    for (int j = 0; j < V; ++j) scale.at[j] = weight.at[j] * reciprocal.at[j];
    for (int64_t t = 0; t < p.frames; ++t) {
      auto x = Channels<V>::load(p.x + t * p.channels + first, lanes);
      for (int j = 0; j < V; ++j) {
        const Vector z = multiply_add(x.at[j] - mean.at[j], scale.at[j], bias.at[j]);
        x.at[j] = p.silu ? z * sigmoid(z) : z;
      }
      x.store(p.y + t * p.channels + first, lanes);
    }
  }

 private:
  Vector reciprocal_deviation(Vector variance) const {
    return Vector::all(1.0f) / square_root(variance + Vector::all(p.epsilon));
  }

  template <int V>
  void measure(int64_t first, int64_t lanes, Channels<V>& mean, Channels<V>& reciprocal) const {
    Channels<V> total[1];
    sum_over_frames<V>(p.frames, total, [&](int64_t t, Channels<V>(&sums)[1]) __attribute__((always_inline)) {
      const auto x = Channels<V>::load(p.x + t * p.channels + first, lanes);
      for (int j = 0; j < V; ++j) sums[0].at[j] = sums[0].at[j] + x.at[j];
    });
    const Vector share = Vector::all(1.0f / static_cast<float>(p.frames));
    for (int j = 0; j < V; ++j) mean.at[j] = total[0].at[j] * share;
    sum_over_frames<V>(p.frames, total, [&](int64_t t, Channels<V>(&sums)[1]) __attribute__((always_inline)) {
      const auto x = Channels<V>::load(p.x + t * p.channels + first, lanes);
      for (int j = 0; j < V; ++j) {
        const Vector difference = x.at[j] - mean.at[j];
        sums[0].at[j] = multiply_add(difference, difference, sums[0].at[j]);
      }
    });
    const Vector unbiased = Vector::all(1.0f / static_cast<float>(p.frames - 1));
    const Vector keep = Vector::all(1.0f - p.momentum), momentum = Vector::all(p.momentum);
    auto running_mean = Channels<V>::load(p.running_mean + first, lanes);
    auto running_variance = Channels<V>::load(p.running_variance + first, lanes);
    for (int j = 0; j < V; ++j) {
      running_mean.at[j] = multiply_add(keep, running_mean.at[j], momentum * mean.at[j]);
      running_variance.at[j] = multiply_add(keep, running_variance.at[j], momentum * total[0].at[j] * unbiased);
      reciprocal.at[j] = reciprocal_deviation(total[0].at[j] * share);
    }
    running_mean.store(p.running_mean + first, lanes);
    running_variance.store(p.running_variance + first, lanes);
  }
};

struct BackwardWork {
  const BatchNormBackward& p;

  template <int V>
  void run(int64_t first, int64_t lanes) const {
    const auto mean = Channels<V>::load(p.mean + first, lanes);
    const auto reciprocal = Channels<V>::load(p.reciprocal_deviation + first, lanes);
    const auto weight = Channels<V>::load(p.weight + first, lanes), bias = Channels<V>::load(p.bias + first, lanes);

    // First pass: gradient before the activation, kept in gradient_x, and its sums over time.
    Channels<V> totals[2];
    sum_over_frames<V>(p.frames, totals, [&](int64_t t, Channels<V>(&sums)[2]) __attribute__((always_inline)) {
      const auto x = Channels<V>::load(p.x + t * p.channels + first, lanes);
      auto gradient = Channels<V>::load(p.gradient + t * p.channels + first, lanes);
      for (int j = 0; j < V; ++j) {
        const Vector normal = (x.at[j] - mean.at[j]) * reciprocal.at[j];
        if (p.silu) gradient.at[j] = gradient.at[j] * silu_derivative(multiply_add(normal, weight.at[j], bias.at[j]));
        sums[0].at[j] = sums[0].at[j] + gradient.at[j];
        sums[1].at[j] = multiply_add(gradient.at[j], normal, sums[1].at[j]);
      }
      gradient.store(p.gradient_x + t * p.channels + first, lanes);
    });
    totals[0].store(p.gradient_bias + first, lanes);
    totals[1].store(p.gradient_weight + first, lanes);

    // Second pass: w r (g - mean(g) - normal mean(g normal)), the means being zero for constant statistics.
    const Vector share = Vector::all(p.training ? 1.0f / static_cast<float>(p.frames) : 0.0f);
    Channels<V> scale, slope;
    for (int j = 0; j < V; ++j) {
      scale.at[j] = weight.at[j] * reciprocal.at[j];
      slope.at[j] = reciprocal.at[j] * totals[1].at[j] * share;
      totals[0].at[j] = totals[0].at[j] * share;
    }
    for (int64_t t = 0; t < p.frames; ++t) {
      float* to = p.gradient_x + t * p.channels + first;
      const auto x = Channels<V>::load(p.x + t * p.channels + first, lanes);
      auto gradient = Channels<V>::load(to, lanes);
      for (int j = 0; j < V; ++j) {
        const Vector through = gradient.at[j] - totals[0].at[j] - (x.at[j] - mean.at[j]) * slope.at[j];
        gradient.at[j] = scale.at[j] * through;
      }
      gradient.store(to, lanes);
    }
  }
};

}  // namespace

void batch_norm_forward(const BatchNormForward& p) { for_each_block(p.frames, p.channels, ForwardWork{p}); }

void batch_norm_backward(const BatchNormBackward& p) { for_each_block(p.frames, p.channels, BackwardWork{p}); }

}  // namespace usmlite::cpu::USMLITE_ISA
