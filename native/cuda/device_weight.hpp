// Weights in the memory of the GPU, as fragment_order.hpp describes them.
#pragma once
#include <cstdint>
#include <string>
#include <utility>

#include "cuda/arranged_weight.hpp"
#include "cuda/device_memory.hpp"

namespace usmlite::cuda {

/// One weight in one block of memory, immutable unless it is one of training. May be used on any stream at any time once it exists.
class DeviceWeight {
 public:
  /// Returns when the weight is on the GPU. Throws OUT_OF_MEMORY.
  /// highest_activation: of the whole numbers that activations are rounded to for int8 arithmetic, 127 or 7.
  explicit DeviceWeight(const ArrangedWeight& arranged, std::string spec = "", int highest_activation = 127);
  /// `times` copies of `weight`, whose channels fill its blocks, one below the other: large weights for measuring, without
  /// arranging them.
  DeviceWeight(const DeviceWeight& weight, int times);
  /// Dense codes of int8 for 8-bit arithmetic, not filled yet: for training, which fills it again and again on one stream
  /// (integer_training.hpp) and uses it on no other.
  DeviceWeight(int channels, int inputs, std::string spec, int highest_activation);
  /// Waits for all work of the GPU, since any of it may read the weight.
  ~DeviceWeight();

  const WeightView& view() const { return view_; }
  ChannelOrder order() const { return order_; }
  /// Canonical weight spec, or empty.
  const std::string& spec() const { return spec_; }
  int highest_activation() const { return highest_activation_; }
  /// Whether training may fill it.
  bool fillable() const { return fillable_; }
  /// Columns of a product with it.
  int64_t outputs() const { return order_ == ChannelOrder::kGlu ? view_.channels / 2 : view_.channels; }
  int64_t padded_channels() const { return int64_t{view_.blocks} * kBlockChannels; }
  int64_t bytes() const { return static_cast<int64_t>(memory_.bytes()); }
  /// What is in the memory of the GPU now.
  ArrangedWeight read_back() const;

 private:
  WeightView view_;
  ChannelOrder order_;
  std::string spec_;
  int highest_activation_;
  bool fillable_ = false;
  size_t tile_bytes_, metadata_bytes_, group_scale_bytes_, channel_scale_bytes_;
  DeviceMemory memory_;
};

}  // namespace usmlite::cuda
