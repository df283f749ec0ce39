#include "cuda/device_memory.hpp"

#include <algorithm>
#include <bit>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "cuda/recording_memory.hpp"

namespace usmlite::cuda {
namespace device_allocator {
namespace {

using FreeBlocks = std::map<size_t, std::vector<void*>>;  // size class -> blocks

struct State {
  std::mutex mutex;
  std::map<Owner, FreeBlocks> free_blocks;  // by who used them last; null: idle, for anyone
  std::set<Owner> pinned;
  MemoryStatistics statistics;
};

// Leaked on purpose: tensors of a worker thread may be released while static destructors already run.
State& state() {
  static State* instance = new State;
  return *instance;
}

// Eight classes per power of two for what is to be used again: at most 12.5 % of a block is slack.
size_t block_size(size_t bytes, Lifetime lifetime) {
  const size_t granularity = driver::allocation_granularity();
  const size_t rounded = std::max((bytes + granularity - 1) / granularity * granularity, granularity);
  if (lifetime == Lifetime::kLasting) return rounded;
  if (granularity == 1) return rounded;  // the emulator finds accesses beyond the end
  const size_t step = std::max(std::bit_floor(rounded) / 8, granularity);
  return (rounded + step - 1) / step * step;
}

void* take(State& s, Owner owner, size_t size) {
  for (Owner from : {owner, Owner{nullptr}}) {
    const auto blocks = s.free_blocks.find(from);
    if (blocks == s.free_blocks.end()) continue;
    const auto entry = blocks->second.find(size);
    if (entry == blocks->second.end() || entry->second.empty()) continue;
    void* block = entry->second.back();
    entry->second.pop_back();
    s.statistics.bytes_cached -= static_cast<int64_t>(size);
    return block;
  }
  return nullptr;
}

// Freeing waits for the GPU, so that no block goes that is still in use.
void trim_locked(State& s) {
  for (auto& [owner, sizes] : s.free_blocks) {
    if (s.pinned.contains(owner)) continue;
    for (auto& [size, blocks] : sizes) {
      for (void* block : blocks) driver::release(block);
      s.statistics.bytes_cached -= static_cast<int64_t>(size * blocks.size());
    }
  }
  std::erase_if(s.free_blocks, [&](const auto& entry) { return !s.pinned.contains(entry.first); });
}

std::string mebibytes(int64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

}  // namespace

void* allocate(size_t bytes, Owner owner, Lifetime lifetime) {
  const size_t size = block_size(bytes, lifetime);
  State& s = state();
  std::lock_guard lock(s.mutex);
  void* block = lifetime == Lifetime::kPassing ? take(s, owner, size) : nullptr;
  if (!block) block = driver::allocate(size);
  if (!block) {
    trim_locked(s);
    block = driver::allocate(size);
  }
  if (!block) {
    throw Error(error_code::kOutOfMemory,
                "the GPU has no " + mebibytes(static_cast<int64_t>(bytes)) + " left: " + mebibytes(driver::free_memory()) + " of " +
                    mebibytes(gpu_properties().memory_bytes) + " are free, " + mebibytes(s.statistics.bytes_in_use) +
                    " are used by this process's tensors and weights; dispose of some, or use a smaller batch");
  }
  s.statistics.bytes_in_use += static_cast<int64_t>(size);
  s.statistics.peak_bytes = std::max(s.statistics.peak_bytes, s.statistics.bytes_in_use);
  ++s.statistics.allocations;
  return block;
}

void release(void* block, size_t bytes, Owner owner, Lifetime lifetime) noexcept {
  const size_t size = block_size(bytes, lifetime);
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.statistics.bytes_in_use -= static_cast<int64_t>(size);
  if (lifetime == Lifetime::kLasting) return driver::release(block);
  s.free_blocks[owner][size].push_back(block);
  s.statistics.bytes_cached += static_cast<int64_t>(size);
}

void adopt_blocks_of(Owner owner) noexcept {
  State& s = state();
  std::lock_guard lock(s.mutex);
  const auto blocks = s.free_blocks.find(owner);
  if (blocks == s.free_blocks.end()) return;
  for (auto& [size, list] : blocks->second) {
    std::vector<void*>& idle = s.free_blocks[nullptr][size];
    idle.insert(idle.end(), list.begin(), list.end());
  }
  s.free_blocks.erase(blocks);
}

void pin_blocks_of(Owner owner, bool pinned) noexcept {
  State& s = state();
  std::lock_guard lock(s.mutex);
  if (pinned) s.pinned.insert(owner);
  else s.pinned.erase(owner);
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

}  // namespace device_allocator

namespace {

std::shared_ptr<RecordingPool> pool_of_recording() {
  const RecordingMemory* recording = RecordingMemory::current();
  return recording ? recording->pool() : nullptr;
}

}  // namespace

DeviceMemory::DeviceMemory(size_t bytes, Stream stream, device_allocator::Lifetime lifetime)
    : bytes_(bytes), lifetime_(lifetime), stream_(std::move(stream)), pool_(pool_of_recording()),
      data_(static_cast<uint8_t*>(device_allocator::allocate(bytes, owner(), lifetime))) {}

DeviceMemory::~DeviceMemory() { device_allocator::release(data_, bytes_, owner(), lifetime_); }

device_allocator::Owner DeviceMemory::owner() const { return pool_ ? static_cast<device_allocator::Owner>(pool_.get()) : stream_.handle(); }

uint8_t* DeviceMemory::use_on(const Stream& stream) {
  if (RecordingMemory* recording = RecordingMemory::current()) {
    if (const std::shared_ptr<DeviceMemory> self = weak_from_this().lock()) recording->note(self, pool_ == recording->pool());
  }
  if (stream != stream_) {
    driver::wait_for(stream.handle(), stream_.handle());
    stream_ = stream;
  }
  return data_;
}

}  // namespace usmlite::cuda
