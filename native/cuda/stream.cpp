#include "cuda/stream.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "cuda/device_memory.hpp"
#include "cuda/recording_memory.hpp"

namespace usmlite::cuda {

struct Stream::Queue {
  /// Counters: zeros, each block longer than the one before.
  struct Block {
    int* begin;
    int count;
    size_t bytes() const { return sizeof(int) * static_cast<size_t>(count); }
  };

  ~Queue() {
    try {
      driver::synchronize(handle);
    } catch (const Error&) {
      // A GPU that has failed says so to whoever asks it for results.
    }
    for (const Block& block : blocks) device_allocator::release(block.begin, block.bytes(), handle);
    device_allocator::adopt_blocks_of(handle);
    driver::destroy_stream(handle);
  }

  StreamHandle handle = driver::create_stream();
  std::mutex mutex;
  std::vector<Block> blocks;
  std::atomic<int> owners = 1;
};

Stream::Stream() : queue_(new Queue), handle_(queue_->handle) {}

Stream::Stream(const Stream& other) noexcept : queue_(other.queue_), handle_(other.handle_) { ++queue_->owners; }

Stream& Stream::operator=(const Stream& other) noexcept {
  Stream copy(other);
  std::swap(queue_, copy.queue_);
  std::swap(handle_, copy.handle_);
  return *this;
}

Stream::~Stream() {
  if (--queue_->owners == 0) delete queue_;
}

int* Stream::counters(int count) const {
  std::lock_guard lock(queue_->mutex);
  std::vector<Queue::Block>& blocks = queue_->blocks;
  if (blocks.empty() || blocks.back().count < count) {
    if (RecordingMemory::current()) {
      throw Error(error_code::kGpuFailed, "recorded work needs more counters than its stream has: run the work once before it is recorded");
    }
    constexpr int kFewest = 4096;
    Queue::Block grown{nullptr, std::max({count, blocks.empty() ? 0 : 2 * blocks.back().count, kFewest})};
    grown.begin = static_cast<int*>(device_allocator::allocate(grown.bytes(), handle_));
    blocks.push_back(grown);
    driver::fill(grown.begin, 0, grown.bytes(), handle_);
  }
  return blocks.back().begin;
}

const Stream& default_stream() {
  thread_local const Stream stream;
  return stream;
}

}  // namespace usmlite::cuda
