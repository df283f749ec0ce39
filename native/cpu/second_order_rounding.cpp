// Blocked: within a block of inputs each error is spread at once, over the inputs behind it by one matrix product.
#include "cpu/second_order_rounding.hpp"

#include <numeric>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/matmul.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// Inputs per block at least. A block holds whole groups of N:M and of scales.
constexpr int64_t kInputBlock = 128;

codec::GroupScale search(const codec::WeightSpec& spec, const ScaleGroup& group) { return search_scale(spec, group); }

// Inputs [begin, end) of one row. `scale` is carried from block to block.
void round_block(const SecondOrderRounding& r, int64_t row, int64_t begin, int64_t end, codec::GroupScale& scale, float* errors) {
  float* const weights = r.weights + row * r.columns;
  for (int64_t j = begin; j < end; ++j) {
    begin_input(r, row, j, scale, search);
    const float error = round_input(r, row, j, scale);
    errors[j - begin] = error;
    if (error == 0.0f) continue;
    const float* const factor = r.factor + j * r.columns + j + 1;
    const Vector minus_error = Vector::all(-error);
    for_each_vector(end - j - 1, [&](int64_t i, int64_t lanes) {
      float* const at = weights + j + 1 + i;
      multiply_add(minus_error, Vector::load(factor + i, lanes), Vector::load(at, lanes)).store(at, lanes);
    });
  }
}

}  // namespace

void second_order_rounding(const SecondOrderRounding& r) {
  const int64_t block = r.spec.is_sparse() ? std::lcm(kInputBlock, static_cast<int64_t>(r.spec.of)) : kInputBlock;
  Scratch<float> errors(static_cast<size_t>(r.rows * std::min(block, r.columns)));
  std::vector<codec::GroupScale> scales(static_cast<size_t>(r.rows), codec::GroupScale{1.0f, 0.0f, true});
  MatmulEpilogue negated;
  negated.scale = -1.0f;
  for (int64_t begin = 0; begin < r.columns; begin += block) {
    const int64_t end = std::min(begin + block, r.columns), width = end - begin;
    parallel_for(r.rows, 4, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        round_block(r, row, begin, end, scales[static_cast<size_t>(row)], errors.data() + row * width);
      }
    });
    if (end == r.columns) break;
    matmul(false, false, r.rows, r.columns - end, width, errors.data(), width, r.factor + begin * r.columns + end, r.columns, 1.0f,
           r.weights + end, r.columns, negated);
  }
}

}  // namespace usmlite::cpu::USMLITE_ISA
