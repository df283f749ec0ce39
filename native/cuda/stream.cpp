#include "cuda/stream.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "cuda/device_memory.hpp"

namespace usmlite::cuda {

Stream::Stream() : handle_(driver::create_stream()) {}

Stream::~Stream() {
  try {
    synchronize();
  } catch (const Error&) {
    // A GPU that has failed says so to whoever asks it for results.
  }
  for (const Counters& counters : counters_) device_allocator::release(counters.begin, sizeof(int) * static_cast<size_t>(counters.count), handle_);
  device_allocator::adopt_blocks_of(handle_);
  driver::destroy_stream(handle_);
}

int* Stream::counters(int count) {
  std::lock_guard lock(mutex_);
  if (counters_.empty() || counters_.back().count < count) {
    if (RecordingMemory::current()) {
      throw Error(error_code::kGpuFailed, "recorded work needs more counters than its stream has: run the work once before it is recorded");
    }
    constexpr int kFewest = 4096;
    const int grown = std::max({count, counters_.empty() ? 0 : 2 * counters_.back().count, kFewest});
    const size_t bytes = sizeof(int) * static_cast<size_t>(grown);
    int* counters = static_cast<int*>(device_allocator::allocate(bytes, handle_));
    counters_.push_back({counters, grown});
    driver::fill(counters, 0, bytes, handle_);
  }
  return counters_.back().begin;
}

const std::shared_ptr<Stream>& default_stream() {
  thread_local const std::shared_ptr<Stream> stream = std::make_shared<Stream>();
  return stream;
}

}  // namespace usmlite::cuda
