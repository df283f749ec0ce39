#include "cpu/linear_gradient.hpp"

#include <algorithm>

#include "core/thread_pool.hpp"
#include "cpu/dropout_mask.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// Threads divide the columns, so that the sum over frames runs in one order whatever their number.
constexpr int64_t kColumnBlock = 64;
constexpr int64_t kGradientGrain = 16384;  // elements per thread below which waking one costs more than it saves

Vector slope(Vector x, Activation activation) {
  const Vector one = Vector::all(1.0f);
  if (activation == Activation::kRelu) return select_greater(x, Vector::zero(), one, Vector::zero());
  const Vector s = sigmoid(x);
  return s * multiply_add(x, one - s, one);  // d/dx x s(x), with s' = s (1 - s)
}

}  // namespace

void linear_gradient(const LinearGradient& layer, float* sum_gradient, float* bias_gradient) {
  const int64_t features = layer.features, blocks = (features + kColumnBlock - 1) / kColumnBlock;
  const int64_t grain = std::max<int64_t>(1, kGradientGrain / kColumnBlock / std::max<int64_t>(layer.frames, 1));
  if (bias_gradient) std::fill_n(bias_gradient, features, 0.0f);
  const Vector scale = Vector::all(layer.scale);
  const DropoutMask mask(layer.dropout);
  parallel_for(blocks, grain, [&](int64_t first, int64_t last) {
    const int64_t begin = first * kColumnBlock, end = std::min(last * kColumnBlock, features);
    for (int64_t frame = 0; frame < layer.frames; ++frame) {
      const int64_t row = frame * features + begin;
      for_each_masked(mask, row, end - begin, [&](int64_t i, int64_t lanes, Vector multiplier) __attribute__((always_inline)) {
        const int64_t column = begin + i, at = row + i;
        Vector value = Vector::load(layer.gradient + at, lanes) * (scale * multiplier);
        if (layer.activation != Activation::kNone) {
          value = value * slope(Vector::load(layer.pre_activation + at, lanes), layer.activation);
        }
        if (sum_gradient) value.store(sum_gradient + at, lanes);
        if (bias_gradient) {
          (Vector::load(bias_gradient + column, lanes) + value).store(bias_gradient + column, lanes);
        }
      });
    }
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
