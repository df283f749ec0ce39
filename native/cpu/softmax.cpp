#include "cpu/softmax.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// Rows per thread below which waking one costs more than it saves.
int64_t softmax_grain(int64_t columns) { return std::max<int64_t>(1, 8192 / std::max<int64_t>(columns, 1)); }

float row_maximum(const float* x, int64_t columns) {
  const Vector lowest = Vector::all(-std::numeric_limits<float>::infinity());
  Vector largest = lowest;
  for_each_vector(columns, [&](int64_t i, int64_t lanes) {
    largest = maximum(largest, Vector::load(x + i, lanes).head(lanes, lowest));
  });
  return largest.maximum();
}

}  // namespace

void softmax_forward(const float* x, float* y, int64_t rows, int64_t columns) {
  parallel_for(rows, softmax_grain(columns), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* from = x + row * columns;
      float* to = y + row * columns;
      const Vector largest = Vector::all(row_maximum(from, columns));
      Vector sum = Vector::zero();
      for_each_vector(columns, [&](int64_t i, int64_t lanes) {
        const Vector power = exponential(Vector::load(from + i, lanes) - largest);
        power.store(to + i, lanes);
        sum = sum + power.head(lanes, Vector::zero());
      });
      const Vector factor = Vector::all(1.0f / sum.sum());
      for_each_vector(columns, [&](int64_t i, int64_t lanes) {
        (Vector::load(to + i, lanes) * factor).store(to + i, lanes);
      });
    }
  });
}

void softmax_backward(const float* y, const float* gradient, float* gradient_x, int64_t rows, int64_t columns) {
  parallel_for(rows, softmax_grain(columns), [&](int64_t begin, int64_t end) {
    for (int64_t at = begin * columns; at < end * columns; at += columns) {
      Vector products = Vector::zero();
      for_each_vector(columns, [&](int64_t i, int64_t lanes) {
        products = multiply_add(Vector::load(gradient + at + i, lanes), Vector::load(y + at + i, lanes), products);
      });
      const Vector mean = Vector::all(products.sum());
      for_each_vector(columns, [&](int64_t i, int64_t lanes) {
        const Vector centred = Vector::load(gradient + at + i, lanes) - mean;
        (Vector::load(y + at + i, lanes) * centred).store(gradient_x + at + i, lanes);
      });
    }
  });
}

void log_softmax_forward(const float* x, float* y, int64_t rows, int64_t columns) {
  parallel_for(rows, softmax_grain(columns), [&](int64_t begin, int64_t end) {
    for (int64_t at = begin * columns; at < end * columns; at += columns) {
      const float largest = row_maximum(x + at, columns);
      Vector sum = Vector::zero();
      for_each_vector(columns, [&](int64_t i, int64_t lanes) {
        const Vector power = exponential(Vector::load(x + at + i, lanes) - Vector::all(largest));
        sum = sum + power.head(lanes, Vector::zero());
      });
      const Vector shift = Vector::all(largest), logarithm = Vector::all(std::log(sum.sum()));
      for_each_vector(columns, [&](int64_t i, int64_t lanes) {
        (Vector::load(x + at + i, lanes) - shift - logarithm).store(y + at + i, lanes);
      });
    }
  });
}

void log_softmax_backward(const float* y, const float* gradient, float* gradient_x, int64_t rows, int64_t columns) {
  parallel_for(rows, softmax_grain(columns), [&](int64_t begin, int64_t end) {
    for (int64_t at = begin * columns; at < end * columns; at += columns) {
      Vector total = Vector::zero();
      for_each_vector(columns, [&](int64_t i, int64_t lanes) { total = total + Vector::load(gradient + at + i, lanes); });
      const Vector sum = Vector::all(total.sum());
      for_each_vector(columns, [&](int64_t i, int64_t lanes) {
        const Vector probability = exponential(Vector::load(y + at + i, lanes));
        (Vector::load(gradient + at + i, lanes) - probability * sum).store(gradient_x + at + i, lanes);
      });
    }
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
