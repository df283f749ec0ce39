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

/// Constants are tables in the program, outside of the device's memory.
enum class Access : uint8_t { kRead, kReadOrConstant, kWrite, kAtomic };

/// A kernel begins: what earlier kernels wrote is from before it.
void begin_kernel();
/// For a running kernel: fails unless these bytes lie in one buffer, and when the kernel before this one wrote to it and
/// may still run.
void check(const void* address, size_t bytes, size_t alignment, Access access, const char* operation);

}  // namespace usmlite::emu::global_memory
