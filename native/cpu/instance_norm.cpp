#include "cpu/instance_norm.hpp"

#include <algorithm>
#include <cmath>

#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kFloatFrames = 128;  // frames whose sum a float holds without losing digits that matter

// sums(kLanes) += the sum over frames of body(first lane, lanes) of each channel
template <typename Body>
void accumulate(int64_t frames, double* sums, const Body& body) {
  for (int64_t begin = 0; begin < frames; begin += kFloatFrames) {
    Vector sum = Vector::zero();
    for (int64_t t = begin; t < std::min(begin + kFloatFrames, frames); ++t) sum = sum + body(t);
    float lanes[Vector::kLanes];
    sum.store(lanes);
    for (int64_t i = 0; i < Vector::kLanes; ++i) sums[i] += lanes[i];
  }
}

}  // namespace

void instance_norm(const float* x, const int32_t* offsets, int64_t sequences, int64_t channels, const float* weight,
                   const float* bias, float epsilon, float* y) {
  const int64_t groups = (channels + Vector::kLanes - 1) / Vector::kLanes;
  parallel_dynamic(sequences * groups, [&](int64_t unit) {
    const int64_t sequence = unit / groups, channel = unit % groups * Vector::kLanes;
    const int64_t lanes = std::min(Vector::kLanes, channels - channel);
    const int64_t first = offsets[sequence], frames = offsets[sequence + 1] - first;
    if (frames == 0) return;
    const float* from = x + first * channels + channel;
    float* to = y + first * channels + channel;
    double sums[Vector::kLanes] = {}, squares[Vector::kLanes] = {};
    accumulate(frames, sums, [&](int64_t t) { return Vector::load(from + t * channels, lanes); });
    float means[Vector::kLanes], factors[Vector::kLanes] = {};
    for (int64_t i = 0; i < Vector::kLanes; ++i) means[i] = static_cast<float>(sums[i] / static_cast<double>(frames));
    const Vector mean = Vector::load(means);
    accumulate(frames, squares, [&](int64_t t) {
      const Vector difference = Vector::load(from + t * channels, lanes) - mean;
      return difference * difference;
    });
    for (int64_t i = 0; i < lanes; ++i) {
      factors[i] = static_cast<float>(weight[channel + i] / std::sqrt(squares[i] / static_cast<double>(frames) + epsilon));
    }
    const Vector factor = Vector::load(factors), shift = Vector::load(bias + channel, lanes);
    for (int64_t t = 0; t < frames; ++t) {
      multiply_add(Vector::load(from + t * channels, lanes) - mean, factor, shift).store(to + t * channels, lanes);
    }
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
