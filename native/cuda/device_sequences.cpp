#include "cuda/device_sequences.hpp"

#include <algorithm>
#include <utility>

#include "cuda/pinned_memory.hpp"
#include "cuda/shorten_sequences.hpp"

namespace usmlite::cuda {
namespace {

int longest_of(const std::vector<int32_t>& offsets) {
  int longest = 0;
  for (size_t i = 1; i < offsets.size(); ++i) longest = std::max(longest, offsets[i] - offsets[i - 1]);
  return longest;
}

std::vector<int32_t> shortened(const std::vector<int32_t>& offsets, const Shortening& shortening) {
  std::vector<int32_t> after{0};
  for (size_t i = 1; i < offsets.size(); ++i) {
    after.push_back(after.back() + static_cast<int32_t>(shortening.length(offsets[i] - offsets[i - 1])));
  }
  return after;
}

}  // namespace

int64_t Shortening::length(int64_t frames) const {
  const int64_t free = frames + 2 * int64_t{padding} - kernel;
  return frames <= 0 || free < 0 ? 0 : free / stride + 1;
}

DeviceSequences::DeviceSequences(std::vector<int32_t> offsets, const Stream& stream)
    : DeviceSequences(std::move(offsets), {}, stream) {}

DeviceSequences::DeviceSequences(std::vector<int32_t> offsets, const std::vector<int32_t>& rows, const Stream& stream)
    : offsets_(std::move(offsets)), longest_(longest_of(offsets_)),
      rows_end_(rows.empty() ? 0 : int64_t{*std::max_element(rows.begin(), rows.end())} + 1),
      memory_(std::make_shared<DeviceMemory>((offsets_.size() + rows.size()) * sizeof(int32_t), stream)) {
  refill(offsets_, rows, stream);
}

DeviceSequences::DeviceSequences(DeviceSequences& before, const Shortening& shortening, const Stream& stream)
    : offsets_(shortened(before.offsets_, shortening)), longest_(longest_of(offsets_)),
      memory_(std::make_shared<DeviceMemory>(offsets_.size() * sizeof(int32_t), stream)) {
  shorten_sequences(before.use_on(stream), shortening, reinterpret_cast<int32_t*>(memory_->use_on(stream)), stream.handle());
}

void DeviceSequences::refill(const std::vector<int32_t>& offsets, const std::vector<int32_t>& rows, const Stream& stream) {
  std::vector<int32_t> both = offsets;  // one after the other: copied at once
  both.insert(both.end(), rows.begin(), rows.end());
  const size_t bytes = both.size() * sizeof(int32_t);
  copy_from_host(memory_->use_on(stream), bytes, both.data(), bytes, 1, stream);
}

PackedSequences DeviceSequences::use_on(const Stream& stream) {
  const auto* offsets = reinterpret_cast<const int32_t*>(memory_->use_on(stream));
  return {offsets, count(), longest_, has_rows() ? offsets + offsets_.size() : nullptr};
}

}  // namespace usmlite::cuda
