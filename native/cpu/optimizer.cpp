#include "cpu/optimizer.hpp"

#include <algorithm>
#include <vector>

#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kOptimizerBlock = 8192;  // elements; a fixed partition, so that no sum depends on the number of threads
constexpr int64_t kBlockGrain = 2;         // blocks per thread below which waking one costs more than it saves

struct TensorBlock {
  int64_t tensor, begin, end;
};

/// All tensors cut into blocks, so that threads share a few large and many tiny tensors evenly.
template <typename Item>
std::vector<TensorBlock> blocks_of(const Item* items, int64_t tensors) {
  std::vector<TensorBlock> blocks;
  for (int64_t i = 0; i < tensors; ++i) {
    for (int64_t begin = 0; begin < items[i].count; begin += kOptimizerBlock) {
      blocks.push_back({i, begin, std::min(begin + kOptimizerBlock, items[i].count)});
    }
  }
  return blocks;
}

/// Calls step(item, index, lanes) for every vector of every tensor.
template <typename Item, typename Step>
void for_each_element(const Item* items, int64_t tensors, Step&& step) {
  const std::vector<TensorBlock> blocks = blocks_of(items, tensors);
  parallel_for(static_cast<int64_t>(blocks.size()), kBlockGrain, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      const TensorBlock block = blocks[b];
      const Item item = items[block.tensor];
      for_each_vector(block.end - block.begin,
                      [&](int64_t i, int64_t lanes) { step(item, block.begin + i, lanes); });
    }
  });
}

}  // namespace

void adamw(const AdamWParameter* parameters, int64_t tensors, const AdamWStep& step) {
  const Vector beta1 = Vector::all(step.beta1), rest1 = Vector::all(1 - step.beta1);
  const Vector beta2 = Vector::all(step.beta2), rest2 = Vector::all(1 - step.beta2);
  const Vector epsilon = Vector::all(step.epsilon), scale = Vector::all(step.gradient_scale);
  const Vector inverse1 = Vector::all(1 / step.first_correction), inverse2 = Vector::all(1 / step.second_correction);
  for_each_element(parameters, tensors, [&](const AdamWParameter& p, int64_t i, int64_t lanes) {
    const Vector g = scale * Vector::load(p.gradient + i, lanes);
    const Vector m = multiply_add(beta1, Vector::load(p.first_moment + i, lanes), rest1 * g);
    const Vector v = multiply_add(beta2, Vector::load(p.second_moment + i, lanes), rest2 * g * g);
    m.store(p.first_moment + i, lanes);
    v.store(p.second_moment + i, lanes);
    const Vector update = m * inverse1 / (square_root(v * inverse2) + epsilon);
    const Vector kept = Vector::load(p.value + i, lanes) * Vector::all(1 - p.learning_rate * p.weight_decay);
    multiply_add(Vector::all(-p.learning_rate), update, kept).store(p.value + i, lanes);
  });
}

double sum_of_squares(const Span* spans, int64_t tensors) {
  const std::vector<TensorBlock> blocks = blocks_of(spans, tensors);
  std::vector<double> sums(blocks.size());
  parallel_for(static_cast<int64_t>(blocks.size()), kBlockGrain, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      const TensorBlock block = blocks[b];
      const float* values = spans[block.tensor].values + block.begin;
      Vector sum = Vector::zero();
      for_each_vector(block.end - block.begin, [&](int64_t i, int64_t lanes) {
        const Vector x = Vector::load(values + i, lanes);
        sum = multiply_add(x, x, sum);
      });
      sums[b] = sum.sum();
    }
  });
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

void update_average(const AverageParameter* parameters, int64_t tensors, float decay) {
  const Vector old_share = Vector::all(decay), new_share = Vector::all(1 - decay);
  for_each_element(parameters, tensors, [&](const AverageParameter& p, int64_t i, int64_t lanes) {
    const Vector fresh = new_share * Vector::load(p.value + i, lanes);
    multiply_add(old_share, Vector::load(p.average + i, lanes), fresh).store(p.average + i, lanes);
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
