#include "cuda/stream.hpp"

#include <algorithm>
#include <mutex>
#include <vector>

#include "core/error.hpp"
#include "cuda/device_memory.hpp"
#include "cuda/recording_memory.hpp"

namespace usmlite::cuda {

/// Blocks of zeros, each longer than the one before.
struct Stream::Counters {
  struct Block {
    int* begin;
    int count;
    size_t bytes() const { return sizeof(int) * static_cast<size_t>(count); }
  };
  std::mutex mutex;
  std::vector<Block> blocks;
};

Stream::Stream() : handle_(driver::create_stream()), counters_(std::make_unique<Counters>()) {}

Stream::~Stream() {
  try {
    synchronize();
  } catch (const Error&) {
    // A GPU that has failed says so to whoever asks it for results.
  }
  for (const Counters::Block& block : counters_->blocks) device_allocator::release(block.begin, block.bytes(), handle_);
  device_allocator::adopt_blocks_of(handle_);
  driver::destroy_stream(handle_);
}

int* Stream::counters(int count) {
  std::lock_guard lock(counters_->mutex);
  std::vector<Counters::Block>& blocks = counters_->blocks;
  if (blocks.empty() || blocks.back().count < count) {
    if (RecordingMemory::current()) {
      throw Error(error_code::kGpuFailed, "recorded work needs more counters than its stream has: run the work once before it is recorded");
    }
    constexpr int kFewest = 4096;
    Counters::Block grown{nullptr, std::max({count, blocks.empty() ? 0 : 2 * blocks.back().count, kFewest})};
    grown.begin = static_cast<int*>(device_allocator::allocate(grown.bytes(), handle_));
    blocks.push_back(grown);
    driver::fill(grown.begin, 0, grown.bytes(), handle_);
  }
  return blocks.back().begin;
}

const std::shared_ptr<Stream>& default_stream() {
  thread_local const std::shared_ptr<Stream> stream = std::make_shared<Stream>();
  return stream;
}

}  // namespace usmlite::cuda
