// Memory of the GPU. Freed blocks are kept for reuse, because asking the driver stops the GPU.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/allocator.hpp"
#include "cuda/stream.hpp"

namespace usmlite::cuda {

namespace device_allocator {

/// Thread safe. Throws OUT_OF_MEMORY when even giving back all kept blocks does not help. The block is for work of
/// `stream`, to which it may have belonged before; other streams have to wait for that one first.
void* allocate(size_t bytes, StreamHandle stream);
/// `bytes` must be the size asked for; `stream` the one whose work uses the block last.
void release(void* block, size_t bytes, StreamHandle stream) noexcept;
/// The free blocks of an idle stream that is about to go may be used by any other.
void adopt_blocks_of(StreamHandle stream) noexcept;
/// Gives all kept blocks back to the driver.
void trim() noexcept;
void reset_peak() noexcept;
MemoryStatistics statistics() noexcept;

}  // namespace device_allocator

/// One block, with the stream that works on it. Used on another stream, that one first waits for what is under way on
/// the block, so that results never depend on which streams are used.
class DeviceMemory {
 public:
  DeviceMemory(size_t bytes, std::shared_ptr<Stream> stream);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  size_t bytes() const { return bytes_; }
  /// The memory for work on `stream`, which uses it next.
  uint8_t* use_on(const std::shared_ptr<Stream>& stream);
  /// The memory, for work of any stream that begins after everything given to the GPU before.
  uint8_t* data() const { return data_; }
  const std::shared_ptr<Stream>& stream() const { return stream_; }

 private:
  size_t bytes_;
  std::shared_ptr<Stream> stream_;
  uint8_t* data_;
};

}  // namespace usmlite::cuda
