// NVIDIA's library of dense products, cuBLASLt, where the machine has it: found at run time, never needed.
#pragma once
#include <compare>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>

#include "cuda/matmul_arguments.hpp"

namespace usmlite::cuda {

/// y (tokens, channels) = x (tokens, inputs) Wᵀ of row-major matrices of one 16-bit float type, prepared for one shape. Training
/// also has x and W transposed, and sums that stay in float32.
class CublasLtProduct {
 public:
  static constexpr size_t kWorkspaceBytes = 32 << 20;
  /// Of whole tensors, in bytes. Rows and columns of others begin at multiples of 16 bytes.
  static constexpr size_t kAlignment = 256;

  struct Shape {
    Arithmetic arithmetic;  // kBFloat16 or kFloat16
    int tokens, inputs, channels;
    int64_t x_stride, w_stride, y_stride;  // elements
    bool x_transposed = false;             // x is stored as (inputs, tokens)
    bool w_transposed = false;             // W is stored as (inputs, channels)
    bool float32_sums = false;             // y is float32
    bool loosely_aligned = false;          // a matrix begins at a multiple of 16 bytes that is none of kAlignment

    auto operator<=>(const Shape&) const = default;
  };

  /// Whether one of the matrices makes a shape `loosely_aligned`.
  static bool loosely_aligned(std::initializer_list<const void*> matrices);
  /// Null when the library is not there or knows no way.
  static std::unique_ptr<CublasLtProduct> prepare(const Shape& shape);
  /// Prepared when its shape is first asked for, and kept until the process ends; null as above, and on the emulated GPU.
  static const CublasLtProduct* prepared(const Shape& shape);
  ~CublasLtProduct();
  CublasLtProduct(const CublasLtProduct&) = delete;
  CublasLtProduct& operator=(const CublasLtProduct&) = delete;

  /// Ways of computing it, the one that the library expects to be fastest first.
  int ways() const;
  /// y = scale * product + factor * addend, which lies as y does, or is y, or null; whether the work was given to the stream.
  bool run(int way, const void* x, const void* w, void* y, void* workspace, void* stream, float scale = 1.0f, const void* addend = nullptr,
           float factor = 0.0f) const;

 private:
  struct State;
  explicit CublasLtProduct(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace usmlite::cuda
