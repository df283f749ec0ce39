// The memory of the emulated device: buffers with known bounds, with room around them that belongs to none, so that an
// address beyond the end of one is an error and not another's.
#pragma once
#include <cstddef>
#include <cstdint>

namespace usmlite::emu::global_memory {

/// Aligned to 256 bytes, and filled with 0xcb. Null when less is free: the device has 8 GiB.
void* allocate(size_t bytes);
void release(void* memory) noexcept;
size_t free_bytes() noexcept;

/// For a running kernel: fails unless these bytes lie in one buffer. Bytes outside of all device memory may be read where
/// `constants` are allowed (tables in the program), never written.
void check(const void* address, size_t bytes, size_t alignment, const char* operation, bool constants = false);

}  // namespace usmlite::emu::global_memory
