// Memory of the GPU. Freed blocks are kept for reuse, because asking the driver stops the GPU.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/allocator.hpp"
#include "cuda/stream.hpp"

namespace usmlite::cuda {

namespace device_allocator {

/// Whose blocks those are that wait for reuse: a stream, whose work uses them in order, or the pool of recorded work.
using Owner = const void*;

enum class Lifetime {
  /// Freed blocks wait for reuse, in classes of sizes: up to an eighth of a block is slack.
  kPassing,
  /// What stays for as long as a model does, weights above all: as long as asked for, and given back to the driver at once.
  kLasting,
};

/// Thread safe. Throws OUT_OF_MEMORY when even giving back all kept blocks does not help. The block is for work of
/// `owner`, to which it may have belonged before; other streams have to wait for that one first.
void* allocate(size_t bytes, Owner owner, Lifetime lifetime = Lifetime::kPassing);
/// `bytes` and `lifetime` must be those asked for; `owner` the one whose work uses the block last.
void release(void* block, size_t bytes, Owner owner, Lifetime lifetime = Lifetime::kPassing) noexcept;
/// The free blocks of an idle owner that is about to go may be used by any other.
void adopt_blocks_of(Owner owner) noexcept;
/// Whether the free blocks of an owner have to stay as they are: recorded work writes to them whenever it is run.
void pin_blocks_of(Owner owner, bool pinned) noexcept;
/// Gives all kept blocks back to the driver, but for pinned ones.
void trim() noexcept;
void reset_peak() noexcept;
MemoryStatistics statistics() noexcept;

}  // namespace device_allocator

class RecordingPool;

/// One block, with the stream that works on it. Used on another stream, that one first waits for what is under way on
/// the block, so that results never depend on which streams are used.
class DeviceMemory : public std::enable_shared_from_this<DeviceMemory> {
 public:
  DeviceMemory(size_t bytes, Stream stream, device_allocator::Lifetime lifetime = device_allocator::Lifetime::kPassing);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  size_t bytes() const { return bytes_; }
  /// The memory for work on `stream`, which uses it next.
  uint8_t* use_on(const Stream& stream);
  /// The memory, for work of any stream that begins after everything given to the GPU before.
  uint8_t* data() const { return data_; }
  const Stream& stream() const { return stream_; }

 private:
  device_allocator::Owner owner() const;

  size_t bytes_;
  device_allocator::Lifetime lifetime_;
  Stream stream_;
  std::shared_ptr<RecordingPool> pool_;  // null outside of recordings
  uint8_t* data_;
};

}  // namespace usmlite::cuda
