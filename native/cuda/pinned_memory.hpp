// Page-locked memory of the host: the GPU copies from and to it on its own, while the process goes on. Freed blocks are kept for reuse,
// because locking pages takes longer than most copies.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "cuda/stream.hpp"

namespace usmlite::cuda {

/// One block. It is reused once the GPU is done with it, however early it goes.
class PinnedMemory {
 public:
  /// Throws NO_GPU, DRIVER_TOO_OLD; OUT_OF_MEMORY when the host cannot lock as much.
  explicit PinnedMemory(size_t bytes);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  uint8_t* data() const;
  size_t bytes() const { return bytes_; }
  /// Notes that what `stream` was given so far uses it. What that stream is given from now on begins after what others do with it.
  void used_on(const Stream& stream);

  struct Block;

 private:
  size_t bytes_;
  std::unique_ptr<Block> block_;
  std::optional<Stream> last_stream_;
};

/// Copies rows of `row_bytes` that lie next to each other on the host to the device, `device_stride` bytes apart, through page-locked memory: returns
/// as soon as the host's memory may be reused, mostly before the GPU has begun. Large ones are left to the driver, which waits.
void copy_from_host(void* device, size_t device_stride, const void* host, size_t row_bytes, size_t rows, const Stream& stream);

}  // namespace usmlite::cuda
