// The offsets of packed sequences, kept on the GPU and on the host.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/device_memory.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// Keeps the offsets of packed sequences on the GPU and on the host. Those of the host may be an upper bound: for recorded
/// work, which is run again with other sequences, they say how much room there is.
class DeviceSequences {
 public:
  /// `offsets` begin with 0, never decrease, and are at least one.
  DeviceSequences(std::vector<int32_t> offsets, const Stream& stream);
  /// Of rows that lie anywhere: `rows` has offsets.back(), none below 0.
  DeviceSequences(std::vector<int32_t> offsets, const std::vector<int32_t>& rows, const Stream& stream);
  /// Where sequences lie after a convolution; worked out on the GPU from where they lay there.
  DeviceSequences(DeviceSequences& before, const Shortening& shortening, const Stream& stream);

  /// Other sequences, as many, for the work that follows; the host goes on telling the room there is. `rows` where there were some.
  void refill(const std::vector<int32_t>& offsets, const std::vector<int32_t>& rows, const Stream& stream);
  PackedSequences use_on(const Stream& stream);
  const std::vector<int32_t>& offsets() const { return offsets_; }
  int64_t frames() const { return offsets_.back(); }
  int count() const { return static_cast<int>(offsets_.size()) - 1; }
  int longest() const { return longest_; }
  bool has_rows() const { return rows_end_ > 0; }
  /// Behind the last row that any sequence has.
  int64_t rows_end() const { return has_rows() ? rows_end_ : frames(); }

 private:
  std::vector<int32_t> offsets_;
  int longest_ = 0;
  int64_t rows_end_ = 0;  // 0: there are no `rows`
  std::shared_ptr<DeviceMemory> memory_;
};

}  // namespace usmlite::cuda
