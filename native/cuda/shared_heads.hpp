// Gradients of keys and values that several heads of the queries share.
#pragma once
#include "cuda/scratch_matrix.hpp"

namespace usmlite::cuda {

class HeadGradients {
 public:
  /// `sum` (frames, key_heads * head_dim), bfloat16: what is wanted; `columns`: heads * head_dim.
  HeadGradients(const DeviceMatrix& sum, int64_t columns, const Stream& stream);
  /// (frames, heads * head_dim), to be filled with the gradient of each head: `sum` itself where none is shared.
  const DeviceMatrix& each() const { return is_shared() ? static_cast<const DeviceMatrix&>(each_) : sum_; }
  /// Fills `sum`.
  void add_up(int head_dim, const Stream& stream) const;

 private:
  bool is_shared() const { return sum_.columns() != columns_; }

  const DeviceMatrix& sum_;
  const int64_t columns_;
  ScratchMatrix each_;  // where heads are shared
};

}  // namespace usmlite::cuda
