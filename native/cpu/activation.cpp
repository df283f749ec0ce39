#include "cpu/activation.hpp"

#include <algorithm>

#include "core/thread_pool.hpp"
#include "cpu/dropout_mask.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kActivationGrain = 8192;  // elements per thread below which waking one costs more than it saves
constexpr int64_t kGroup = 64;

// Calls step(index, lanes, dropout multipliers) for all elements, in parallel.
template <typename Step>
void parallel_masked(const Dropout& dropout, int64_t count, const Step& step) {
  const DropoutMask mask(dropout);
  // Parts begin at whole hashes of the mask.
  parallel_for((count + kGroup - 1) / kGroup, kActivationGrain / kGroup, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kGroup;
    for_each_masked(mask, first, std::min(end * kGroup, count) - first,
                    [&](int64_t i, int64_t lanes, Vector multiplier)
                        __attribute__((always_inline)) { step(first + i, lanes, multiplier); });
  });
}

}  // namespace

void silu_forward(const float* x, const Dropout& dropout, float* y, int64_t count) {
  parallel_masked(dropout, count, [=](int64_t i, int64_t lanes, Vector multiplier) __attribute__((always_inline)) {
    const Vector value = Vector::load(x + i, lanes);
    (value * sigmoid(value) * multiplier).store(y + i, lanes);
  });
}

void silu_backward(const float* x, const float* gradient, const Dropout& dropout, float* gradient_x, int64_t count) {
  parallel_masked(dropout, count, [=](int64_t i, int64_t lanes, Vector multiplier) __attribute__((always_inline)) {
    const Vector through = Vector::load(gradient + i, lanes) * multiplier;
    (through * silu_derivative(Vector::load(x + i, lanes))).store(gradient_x + i, lanes);
  });
}

void relu_forward(const float* x, float* y, int64_t count) {
  parallel_for((count + kGroup - 1) / kGroup, kActivationGrain / kGroup, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kGroup;
    for_each_vector(std::min(end * kGroup, count) - first, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
      maximum(Vector::zero(), Vector::load(x + first + i, lanes)).store(y + first + i, lanes);
    });
  });
}

void apply_dropout(const float* x, const Dropout& dropout, float* y, int64_t count) {
  parallel_masked(dropout, count, [=](int64_t i, int64_t lanes, Vector multiplier) __attribute__((always_inline)) {
    (Vector::load(x + i, lanes) * multiplier).store(y + i, lanes);
  });
}

void glu_forward(const float* x, float* y, int64_t frames, int64_t channels) {
  parallel_for(frames, std::max<int64_t>(1, kActivationGrain / std::max<int64_t>(channels, 1)), [&](int64_t begin, int64_t end) {
    for (int64_t frame = begin; frame < end; ++frame) {
      const float* value = x + frame * 2 * channels;
      const float* gate = value + channels;
      float* to = y + frame * channels;
      for_each_vector(channels, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
        (Vector::load(value + c, lanes) * sigmoid(Vector::load(gate + c, lanes))).store(to + c, lanes);
      });
    }
  });
}

void glu_backward(const float* x, const float* gradient, float* gradient_x, int64_t frames, int64_t channels) {
  parallel_for(frames, std::max<int64_t>(1, kActivationGrain / std::max<int64_t>(channels, 1)), [&](int64_t begin, int64_t end) {
    for (int64_t frame = begin; frame < end; ++frame) {
      const float* value = x + frame * 2 * channels;
      const float* gate = value + channels;
      const float* from = gradient + frame * channels;
      float* to = gradient_x + frame * 2 * channels;
      for_each_vector(channels, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
        const Vector s = sigmoid(Vector::load(gate + c, lanes));
        const Vector gs = Vector::load(from + c, lanes) * s;
        gs.store(to + c, lanes);
        (gs * Vector::load(value + c, lanes) * (Vector::all(1.0f) - s)).store(to + channels + c, lanes);
      });
    }
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
