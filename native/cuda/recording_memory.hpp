// Where memory comes from while work is recorded.
#pragma once
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "cuda/stream.hpp"

namespace usmlite::cuda {

class DeviceMemory;

/// The memory that recorded work passes its intermediate results in. Recordings of one stream, which never run at the same
/// time, share a pool; nothing else may get its blocks.
class RecordingPool {
 public:
  explicit RecordingPool(Stream stream);
  /// Waits for the stream.
  ~RecordingPool();
  RecordingPool(const RecordingPool&) = delete;
  RecordingPool& operator=(const RecordingPool&) = delete;

 private:
  Stream stream_;
};

/// While it lives, memory that this thread asks for comes from a pool, and memory that is used is noted: what comes from elsewhere, which
/// recorded work needs whenever it is run, and of the pool's own what outlives the recording, which it fills.
class RecordingMemory {
 public:
  explicit RecordingMemory(std::shared_ptr<RecordingPool> pool);
  ~RecordingMemory();
  RecordingMemory(const RecordingMemory&) = delete;
  RecordingMemory& operator=(const RecordingMemory&) = delete;

  const std::shared_ptr<RecordingPool>& pool() const { return pool_; }
  void note(const std::shared_ptr<DeviceMemory>& memory, bool of_pool);
  std::unordered_set<std::shared_ptr<DeviceMemory>> take_noted() { return std::move(noted_); }
  /// Memory of the pool that there still is.
  std::vector<std::weak_ptr<DeviceMemory>> kept() const;
  /// Of this thread; null when it records nothing.
  static RecordingMemory* current();

 private:
  std::shared_ptr<RecordingPool> pool_;
  std::unordered_set<std::shared_ptr<DeviceMemory>> noted_;
  std::unordered_map<const DeviceMemory*, std::weak_ptr<DeviceMemory>> of_pool_;
};

}  // namespace usmlite::cuda
