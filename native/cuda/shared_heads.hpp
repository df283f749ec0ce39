// Gradients of keys and values that several heads of the queries share.
#pragma once
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

class HeadGradients {
 public:
  /// `sum` (frames, key_heads * head_dim), bfloat16: what is wanted; `columns`: heads * head_dim.
  HeadGradients(const DeviceTensor& sum, int64_t columns, const std::shared_ptr<Stream>& stream);
  /// (frames, heads * head_dim), to be filled with the gradient of each head: `sum` itself where none is shared.
  const DeviceTensor& each() const { return each_; }
  /// Fills `sum`.
  void add_up(int head_dim, const std::shared_ptr<Stream>& stream) const;

 private:
  const DeviceTensor sum_, each_;
};

}  // namespace usmlite::cuda
