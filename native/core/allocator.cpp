#include "core/allocator.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "core/error.hpp"

namespace usmlite::allocator {
namespace {

constexpr size_t kAlignment = 64;
constexpr int64_t kMaximumCachedBytes = int64_t{2} << 30;

struct State {
  std::mutex mutex;
  std::map<size_t, std::vector<void*>> free_blocks;  // size class -> blocks
  MemoryStatistics statistics;
};

// Leaked on purpose: tensors of a worker thread may be released while static destructors already run.
State& state() {
  static State* instance = new State;
  return *instance;
}

// Eight classes per power of two: at most 12.5 % of a block is slack.
size_t size_class(size_t bytes) {
  const size_t rounded = std::max<size_t>((bytes + kAlignment - 1) & ~(kAlignment - 1), kAlignment);
  const size_t step = std::max<size_t>(std::bit_floor(rounded) / 8, kAlignment);
  return (rounded + step - 1) / step * step;
}

void trim_locked(State& s) {
  for (auto& [size, blocks] : s.free_blocks) {
    for (void* block : blocks) std::free(block);
    s.statistics.bytes_cached -= static_cast<int64_t>(size * blocks.size());
  }
  s.free_blocks.clear();
}

}  // namespace

void* allocate(size_t bytes) {
  const size_t size = size_class(bytes);
  State& s = state();
  std::lock_guard lock(s.mutex);
  void* block = nullptr;
  if (auto entry = s.free_blocks.find(size); entry != s.free_blocks.end() && !entry->second.empty()) {
    block = entry->second.back();
    entry->second.pop_back();
    s.statistics.bytes_cached -= static_cast<int64_t>(size);
  } else {
    block = std::aligned_alloc(kAlignment, size);
    if (!block) {
      trim_locked(s);
      block = std::aligned_alloc(kAlignment, size);
    }
    if (!block) {
      throw Error(error_code::kOutOfMemory, "cannot allocate " + std::to_string(bytes) +
                                                " bytes for a tensor; use a smaller batch or shorter audio");
    }
  }
  s.statistics.bytes_in_use += static_cast<int64_t>(size);
  s.statistics.peak_bytes = std::max(s.statistics.peak_bytes, s.statistics.bytes_in_use);
  ++s.statistics.allocations;
  return block;
}

void release(void* block, size_t bytes) noexcept {
  const size_t size = size_class(bytes);
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.statistics.bytes_in_use -= static_cast<int64_t>(size);
  if (s.statistics.bytes_cached + static_cast<int64_t>(size) > kMaximumCachedBytes) {
    std::free(block);
    return;
  }
  s.free_blocks[size].push_back(block);
  s.statistics.bytes_cached += static_cast<int64_t>(size);
}

void trim() noexcept {
  State& s = state();
  std::lock_guard lock(s.mutex);
  trim_locked(s);
}

void reset_peak() noexcept {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.statistics.peak_bytes = s.statistics.bytes_in_use;
}

MemoryStatistics statistics() noexcept {
  State& s = state();
  std::lock_guard lock(s.mutex);
  return s.statistics;
}

}  // namespace usmlite::allocator
