#include "codec/window_order.hpp"

#include "core/thread_pool.hpp"

namespace usmlite::codec {
namespace {

constexpr int64_t kGrain = 16;  // output channels per thread below which waking one costs more than it saves

template <typename Value>
void swap_axes(const Value* from, int64_t out, int64_t rows, int64_t columns, Value* to) {
  parallel_for(out, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      const Value* source = from + o * rows * columns;
      Value* target = to + o * rows * columns;
      for (int64_t column = 0; column < columns; ++column) {
        for (int64_t row = 0; row < rows; ++row) target[column * rows + row] = source[row * columns + column];
      }
    }
  });
}

}  // namespace

void swap_last_axes(const float* from, int64_t out, int64_t rows, int64_t columns, float* to) {
  swap_axes(from, out, rows, columns, to);
}

void swap_last_axes(const uint8_t* from, int64_t out, int64_t rows, int64_t columns, uint8_t* to) {
  swap_axes(from, out, rows, columns, to);
}

}  // namespace usmlite::codec
