#include "cuda/pinned_memory.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"

namespace usmlite::cuda {

struct PinnedMemory::Block {
  Block(void* data, size_t size) : data(data), size(size) {}
  ~Block() { driver::release_host(data); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  bool idle() const { return !used || last_use.done(); }

  void* data;
  size_t size;
  driver::Event last_use;
  bool used = false;
};

namespace {

using Block = PinnedMemory::Block;

constexpr size_t kSmallestBlock = 4096;
constexpr size_t kMostKept = size_t{64} << 20;     // bytes of blocks that wait for reuse
constexpr size_t kLargestStaged = size_t{8} << 20;  // bytes of a copy; more would fill the processor's caches with what nobody reads again

struct Pool {
  std::mutex mutex;
  std::map<size_t, std::vector<std::unique_ptr<Block>>> blocks;  // by size
  size_t kept = 0;                                               // bytes
};

// Leaked on purpose: tensors of a worker thread may be released while static destructors already run.
Pool& pool() {
  static Pool* instance = new Pool;
  return *instance;
}

std::unique_ptr<Block> take(size_t size) {
  Pool& p = pool();
  std::lock_guard lock(p.mutex);
  std::vector<std::unique_ptr<Block>>& blocks = p.blocks[size];
  const auto found = std::find_if(blocks.begin(), blocks.end(), [](const auto& block) { return block->idle(); });
  if (found == blocks.end()) return nullptr;
  std::unique_ptr<Block> block = std::move(*found);
  blocks.erase(found);
  p.kept -= size;
  return block;
}

std::unique_ptr<Block> allocate(size_t size) {
  void* data = driver::allocate_host(size);
  if (!data) {
    throw Error(error_code::kOutOfMemory, "the machine cannot lock " + std::to_string((size + (1 << 20) - 1) >> 20) +
                                              " MiB of its memory for the GPU; free some, or raise the limit of locked memory");
  }
  return std::make_unique<Block>(data, size);
}

}  // namespace

PinnedMemory::PinnedMemory(size_t bytes) : bytes_(bytes) {
  gpu_properties();
  const size_t size = std::max(std::bit_ceil(bytes), kSmallestBlock);
  block_ = take(size);
  if (!block_) block_ = allocate(size);
}

PinnedMemory::~PinnedMemory() {
  Pool& p = pool();
  std::lock_guard lock(p.mutex);
  p.kept += block_->size;
  p.blocks[block_->size].push_back(std::move(block_));
  // Those that the GPU still uses have to stay; they go here when others come later.
  for (auto size = p.blocks.rbegin(); size != p.blocks.rend() && p.kept > kMostKept; ++size) {
    p.kept -= size->first * std::erase_if(size->second, [](const auto& block) { return block->idle(); });
  }
}

uint8_t* PinnedMemory::data() const { return static_cast<uint8_t*>(block_->data); }

void PinnedMemory::used_on(const Stream& stream) {
  // One event tells of all streams, the others of which it has to come after.
  if (last_stream_ && *last_stream_ != stream) driver::wait_for(stream.handle(), last_stream_->handle());
  last_stream_ = stream;
  block_->last_use.record(stream.handle());
  block_->used = true;
}

void copy_from_host(void* device, size_t device_stride, const void* host, size_t row_bytes, size_t rows, const Stream& stream) {
  const size_t bytes = row_bytes * rows;
  if (bytes == 0) return;
  if (bytes > kLargestStaged) return driver::copy_to_device(device, device_stride, host, row_bytes, row_bytes, rows, stream.handle());
  PinnedMemory staged(bytes);
  std::memcpy(staged.data(), host, bytes);
  driver::begin_copy_to_device(device, device_stride, staged.data(), row_bytes, row_bytes, rows, stream.handle());
  staged.used_on(stream);
}

}  // namespace usmlite::cuda
