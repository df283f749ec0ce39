// Several sequences of frames, one after another in one matrix.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "cuda/device_memory.hpp"

namespace usmlite::cuda {

/// Sequence i is the rows offsets[i] to offsets[i + 1].
struct PackedSequences {
  const int32_t* offsets;  // (count + 1), in the memory of the GPU
  int count;
  int longest;  // frames
};

/// Keeps the offsets of packed sequences on the GPU and on the host.
class DeviceSequences {
 public:
  /// `offsets` begin with 0, never decrease, and are at least one.
  DeviceSequences(std::vector<int32_t> offsets, const std::shared_ptr<Stream>& stream)
      : offsets_(std::move(offsets)), memory_(offsets_.size() * sizeof(int32_t), stream) {
    for (size_t i = 1; i < offsets_.size(); ++i) longest_ = std::max(longest_, offsets_[i] - offsets_[i - 1]);
    driver::copy_to_device(memory_.use_on(stream), memory_.bytes(), offsets_.data(), memory_.bytes(), memory_.bytes(), 1,
                           stream->handle());
  }
  PackedSequences use_on(const std::shared_ptr<Stream>& stream) {
    return {reinterpret_cast<const int32_t*>(memory_.use_on(stream)), static_cast<int>(offsets_.size()) - 1, longest_};
  }
  const std::vector<int32_t>& offsets() const { return offsets_; }
  int64_t frames() const { return offsets_.back(); }
  int longest() const { return longest_; }

 private:
  std::vector<int32_t> offsets_;
  int longest_ = 0;
  DeviceMemory memory_;
};

}  // namespace usmlite::cuda
