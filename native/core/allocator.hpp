// A caching allocator for tensor storage: blocks are kept in size classes when freed, because a training step
// asks for the same sizes again and again and fresh pages cost more than the arithmetic done on them.
#pragma once
#include <cstddef>
#include <cstdint>

namespace usmlite {

struct MemoryStatistics {
  int64_t bytes_in_use = 0;    // handed out and not yet returned
  int64_t peak_bytes = 0;      // highest bytes_in_use since start or reset_peak()
  int64_t bytes_cached = 0;    // free, kept for reuse
  int64_t allocations = 0;     // number of allocate() calls
};

namespace allocator {

/// 64-byte aligned, not zeroed. Throws OUT_OF_MEMORY. Thread safe.
void* allocate(size_t bytes);
/// `bytes` must be the size asked for.
void release(void* block, size_t bytes) noexcept;
/// Gives all cached blocks back to the operating system.
void trim() noexcept;
void reset_peak() noexcept;
MemoryStatistics statistics() noexcept;

}  // namespace allocator

/// Temporary memory of one operation, returned to the allocator at the end of its scope.
template <typename T>
class Scratch {
 public:
  explicit Scratch(size_t count) : bytes_(count * sizeof(T)), data_(static_cast<T*>(allocator::allocate(bytes_))) {}
  ~Scratch() { allocator::release(data_, bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t index) { return data_[index]; }
  const T& operator[](size_t index) const { return data_[index]; }

 private:
  size_t bytes_;
  T* data_;
};

}  // namespace usmlite
