// Weights in the memory of the GPU, as fragment_order.hpp describes them.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "cuda/arranged_weight.hpp"
#include "cuda/device_memory.hpp"
#include "cuda/quantize_rows.hpp"

namespace usmlite::cuda {

/// One weight in one block of memory, or one of several that share it; copies share it too. Immutable unless it is one of training. May be used on
/// any stream at any time once it exists. Whatever lets go of the memory last waits for all work of the GPU, since any of it may read the weight.
class DeviceWeight {
 public:
  /// Returns when the weight is on the GPU. Throws OUT_OF_MEMORY.
  /// activations: what they are rounded to for int8 arithmetic.
  explicit DeviceWeight(const ArrangedWeight& arranged, std::string spec = "", RowCodes activations = RowCodes::kInt8);
  /// Dense codes of int8 for 8-bit arithmetic, not filled yet: for training, which fills it again and again on one stream
  /// (integer_training.hpp) and uses it on no other. `spec`: of whole numbers.
  DeviceWeight(int channels, int inputs, const codec::WeightSpec& spec, RowCodes activations);

  /// Weights of one kind, whose channels fill their blocks, one below the other as one: copied to new memory, unless they may stay in
  /// their own and lie there so. Throws INVALID_ARGUMENT where they are not alike.
  static DeviceWeight stack(std::span<const std::shared_ptr<DeviceWeight>> weights, bool may_stay);
  /// Blocks [begin, begin + count) of channels, in the same memory.
  DeviceWeight part(int begin, int count) const;
  bool shares_memory_with(const DeviceWeight& other) const { return memory_ == other.memory_; }

  const WeightView& view() const { return view_; }
  ChannelOrder order() const { return order_; }
  /// Canonical weight spec, or empty.
  const std::string& spec() const { return spec_; }
  RowCodes activations() const { return activations_; }
  /// Whether training may fill it.
  bool fillable() const { return fillable_; }
  /// Columns of a product with it.
  int64_t outputs() const { return order_ == ChannelOrder::kGlu ? view_.channels / 2 : view_.channels; }
  int64_t padded_channels() const { return int64_t{view_.blocks} * kBlockChannels; }
  /// Of memory, without what others have in it.
  int64_t bytes() const { return static_cast<int64_t>(bytes_.total()); }
  /// What is in the memory of the GPU now.
  ArrangedWeight read_back() const;

 private:
  /// Of the parts of a weight, each of which begins where wide loads and bulk copies may begin.
  struct PartBytes {
    size_t tiles, metadata, group_scales, channel_scales, channel_sums, whole_scales, zero_points, kept;
    size_t total() const;
  };
  /// Calls visit(place, values, bytes) for members of WeightView, ArrangedWeight and PartBytes, in the order in which parts lie in memory.
  template <typename Visit> static void for_each_part(Visit&& visit);
  /// Points the view at the parts in the memory.
  void place_parts();

  WeightView view_;
  ChannelOrder order_;
  std::string spec_;
  RowCodes activations_;
  bool fillable_ = false;
  PartBytes bytes_;
  std::shared_ptr<DeviceMemory> memory_;
};

}  // namespace usmlite::cuda
