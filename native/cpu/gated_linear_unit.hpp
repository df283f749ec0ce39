// The gated epilogue where kernels cannot apply it to their own sums.
#pragma once
#include <cstdint>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/matmul_epilogue.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {

/// y (m, n / 2) = epilogue of the sums (m, n) that multiply(sums, epilogue with the bias alone) makes.
template <typename Multiply>
void gate_afterwards(int64_t m, int64_t n, float* y, const MatmulEpilogue& epilogue, Multiply&& multiply) {
  constexpr int64_t kGrain = 1 << 14;  // elements per thread below which waking one costs more than it saves
  const int64_t half = n / 2;
  Scratch<float> sums(static_cast<size_t>(m * n));
  MatmulEpilogue plain;
  plain.bias = epilogue.bias;
  multiply(sums.data(), plain);
  const Vector scale = Vector::all(epilogue.scale), residual_scale = Vector::all(epilogue.residual_scale);
  parallel_for(m, kGrain / (half + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* value = sums.data() + row * n;
      for_each_vector(half, [&](int64_t i, int64_t lanes) {
        Vector x = Vector::load(value + i, lanes) * sigmoid(Vector::load(value + half + i, lanes)) * scale;
        if (epilogue.residual) x = multiply_add(residual_scale, Vector::load(epilogue.residual + row * half + i, lanes), x);
        x.store(y + row * half + i, lanes);
      });
    }
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
