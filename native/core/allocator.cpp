#include "core/allocator.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <new>
#include <string>
#include <utility>

#include "core/error.hpp"

namespace usmlite::allocator {
namespace {

constexpr size_t kAlignment = 64;
constexpr int64_t kMaximumCachedBytes = int64_t{2} << 30;

// Eight classes per power of two: at most 12.5 % of a block is slack.
constexpr size_t kClassesPerPower = 8, kClasses = 64 * kClassesPerPower;

struct SizeClass {
  size_t bytes, index;
};

SizeClass size_class(size_t bytes) {
  const size_t rounded = std::max<size_t>((bytes + kAlignment - 1) & ~(kAlignment - 1), kAlignment);
  const size_t step = std::max<size_t>(std::bit_floor(rounded) / kClassesPerPower, kAlignment);
  const size_t size = (rounded + step - 1) / step * step, power = std::bit_floor(size);
  const size_t steps_above = (size - power) / std::max<size_t>(power / kClassesPerPower, kAlignment);
  return {size, static_cast<size_t>(std::countr_zero(power)) * kClassesPerPower + steps_above};
}

// Free blocks of a class are a list that lies in themselves: giving one back takes no memory, and so cannot fail.
struct FreeBlock {
  FreeBlock* next;
};

struct State {
  std::mutex mutex;
  std::array<FreeBlock*, kClasses> free_blocks = {};
  MemoryStatistics statistics;
};

// Leaked on purpose: tensors of a worker thread may be released while static destructors already run.
State& state() {
  static State* instance = new State;
  return *instance;
}

void trim_locked(State& s) {
  for (FreeBlock*& first : s.free_blocks) {
    while (first) std::free(std::exchange(first, first->next));
  }
  s.statistics.bytes_cached = 0;
}

}  // namespace

void* allocate(size_t bytes) {
  const auto [size, index] = size_class(bytes);
  State& s = state();
  std::lock_guard lock(s.mutex);
  void* block = nullptr;
  if (FreeBlock*& first = s.free_blocks[index]) {
    block = std::exchange(first, first->next);
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
  const auto [size, index] = size_class(bytes);
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.statistics.bytes_in_use -= static_cast<int64_t>(size);
  if (s.statistics.bytes_cached + static_cast<int64_t>(size) > kMaximumCachedBytes) {
    std::free(block);
    return;
  }
  s.free_blocks[index] = new (block) FreeBlock{s.free_blocks[index]};
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
