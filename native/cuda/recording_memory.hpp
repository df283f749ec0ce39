// Where memory comes from while work is recorded.
#pragma once
#include <memory>
#include <unordered_set>
#include <utility>

#include "cuda/stream.hpp"

namespace usmlite::cuda {

class DeviceMemory;

/// The memory that recorded work passes its intermediate results in. Recordings of one stream, which never run at the same
/// time, share a pool; nothing else may get its blocks.
class RecordingPool {
 public:
  explicit RecordingPool(std::shared_ptr<Stream> stream);
  /// Waits for the stream.
  ~RecordingPool();
  RecordingPool(const RecordingPool&) = delete;
  RecordingPool& operator=(const RecordingPool&) = delete;

 private:
  std::shared_ptr<Stream> stream_;
};

/// While it lives, memory that this thread asks for comes from a pool, and memory from elsewhere that is used is noted:
/// recorded work needs it whenever it is run.
class RecordingMemory {
 public:
  explicit RecordingMemory(std::shared_ptr<RecordingPool> pool);
  ~RecordingMemory();
  RecordingMemory(const RecordingMemory&) = delete;
  RecordingMemory& operator=(const RecordingMemory&) = delete;

  const std::shared_ptr<RecordingPool>& pool() const { return pool_; }
  void note(std::shared_ptr<DeviceMemory> memory) { noted_.insert(std::move(memory)); }
  std::unordered_set<std::shared_ptr<DeviceMemory>> take_noted() { return std::move(noted_); }
  /// Of this thread; null when it records nothing.
  static RecordingMemory* current();

 private:
  std::shared_ptr<RecordingPool> pool_;
  std::unordered_set<std::shared_ptr<DeviceMemory>> noted_;
};

}  // namespace usmlite::cuda
