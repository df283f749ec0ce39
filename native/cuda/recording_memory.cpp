#include "cuda/recording_memory.hpp"

#include "core/error.hpp"
#include "cuda/device_memory.hpp"

namespace usmlite::cuda {

namespace {
thread_local RecordingMemory* recording = nullptr;
}  // namespace

RecordingPool::RecordingPool(Stream stream) : stream_(std::move(stream)) { device_allocator::pin_blocks_of(this, true); }

RecordingPool::~RecordingPool() {
  try {
    stream_.synchronize();
  } catch (const Error&) {
    // A GPU that has failed says so to whoever asks it for results.
  }
  device_allocator::pin_blocks_of(this, false);
  device_allocator::adopt_blocks_of(this);
}

RecordingMemory::RecordingMemory(std::shared_ptr<RecordingPool> pool) : pool_(std::move(pool)) { recording = this; }
RecordingMemory::~RecordingMemory() { recording = nullptr; }
RecordingMemory* RecordingMemory::current() { return recording; }

void RecordingMemory::note(const std::shared_ptr<DeviceMemory>& memory, bool of_pool) {
  if (of_pool) of_pool_[memory.get()] = memory;
  else noted_.insert(memory);
}

std::vector<std::weak_ptr<DeviceMemory>> RecordingMemory::kept() const {
  std::vector<std::weak_ptr<DeviceMemory>> result;
  for (const auto& [_, memory] : of_pool_) {
    if (!memory.expired()) result.push_back(memory);
  }
  return result;
}

}  // namespace usmlite::cuda
