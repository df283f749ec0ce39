#include "emu/global_memory.hpp"

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "emu/access_record.hpp"
#include "emu/machine.hpp"

namespace usmlite::emu::global_memory {

namespace {

constexpr size_t kDeviceBytes = size_t{8} << 30;
// Addresses are never given out twice until all have been, so that a released buffer's are known to be nobody's.
constexpr size_t kAddressBytes = size_t{1} << 40;
constexpr size_t kPage = 4096, kGap = 64 * 1024;
constexpr int kUnwritten = 0xcb;

struct Buffer {
  Buffer(uintptr_t begin, size_t bytes) : begin(begin), bytes(bytes), accesses(bytes) {}

  uintptr_t begin;
  size_t bytes;
  AccessRecord accesses;
  uint64_t written_by = 0;  // number of the last kernel that wrote to it
};

struct Memory {
  std::mutex mutex;
  std::atomic<uintptr_t> begin = 0;  // 0: nothing reserved yet
  size_t next = kGap, used = 0;
  std::map<uintptr_t, Buffer> buffers;
  std::atomic<uint64_t> releases = 0;
  uint64_t kernel = 1;

  bool reserves(uintptr_t address) const {
    const uintptr_t first = begin.load(std::memory_order_relaxed);
    return first != 0 && address - first < kAddressBytes;
  }
};

/// Where a buffer lies, and what is known of it.
struct Place {
  uintptr_t begin = 0;
  size_t bytes = 0;
  Buffer* buffer = nullptr;

  bool holds(uintptr_t address, size_t length) const {
    const size_t offset = address - begin;
    return offset < bytes && length <= bytes - offset;
  }
};

/// The buffers used last, for the running kernel to look up without a lock.
class RecentPlaces {
 public:
  /// Null when it must be searched for.
  Buffer* find(uintptr_t address, size_t bytes, uint64_t releases) {
    if (releases != releases_) {
      places_.fill({});
      releases_ = releases;
    }
    const Place& place = at(address);
    return place.holds(address, bytes) ? place.buffer : nullptr;
  }
  void remember(uintptr_t address, const Place& place) { at(address) = place; }

 private:
  // Buffers are at least this far apart, so that few share an entry.
  Place& at(uintptr_t address) { return places_[address / kGap % places_.size()]; }

  uint64_t releases_ = 0;
  std::array<Place, 64> places_{};
};

Memory& memory() {
  static Memory* const instance = new Memory;
  return *instance;
}

size_t mapped_bytes(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

}  // namespace

void* allocate(size_t bytes) {
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  if (m.begin == 0) {
    void* reserved = mmap(nullptr, kAddressBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) return nullptr;
    m.begin = reinterpret_cast<uintptr_t>(reserved);
  }
  if (bytes > kDeviceBytes - m.used || m.next + mapped_bytes(bytes) + kGap > kAddressBytes) return nullptr;
  void* const buffer = reinterpret_cast<void*>(m.begin + m.next);
  if (mprotect(buffer, mapped_bytes(bytes), PROT_READ | PROT_WRITE) != 0) return nullptr;
  m.next += mapped_bytes(bytes) + kGap;
  m.used += bytes;
  m.buffers.try_emplace(reinterpret_cast<uintptr_t>(buffer), reinterpret_cast<uintptr_t>(buffer), bytes);
  std::memset(buffer, kUnwritten, bytes);
  return buffer;
}

void release(void* buffer) noexcept {
  if (!buffer) return;
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  const auto found = m.buffers.find(reinterpret_cast<uintptr_t>(buffer));
  if (found == m.buffers.end()) return;
  // A new mapping in place of the old gives its pages back.
  mmap(buffer, mapped_bytes(found->second.bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  m.used -= found->second.bytes;
  ++m.releases;
  m.buffers.erase(found);
}

size_t free_bytes() noexcept {
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  return kDeviceBytes - m.used;
}

void begin_kernel() {
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  ++m.kernel;
}

namespace {

/// The buffer that holds these bytes. Without one, `problem` says what is wrong.
Place search(uintptr_t address, size_t bytes, std::string& problem) {
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  auto found = m.buffers.upper_bound(address);
  if (!m.reserves(address) || found == m.buffers.begin()) {
    problem = " at an address that is in no device buffer";
    return {};
  }
  --found;
  const Place place{found->first, found->second.bytes, &found->second};
  if (place.holds(address, bytes)) return place;
  problem = " at offset " + std::to_string(address - place.begin) + " of a device buffer of " + std::to_string(place.bytes) + " bytes";
  return {};
}

}  // namespace

void check(const void* pointer, size_t bytes, size_t alignment, Access access, const char* operation) {
  static RecentPlaces recent;  // kernels run one at a time
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  if ((address & (alignment - 1)) != 0)
    machine().fail(std::string(operation) + " at a global address that is not a multiple of " + std::to_string(alignment));
  const auto fail = [&](const std::string& problem) {
    machine().fail(std::string(operation) + " of " + std::to_string(bytes) + " bytes" + problem);
  };
  Memory& m = memory();
  Buffer* buffer = recent.find(address, bytes, m.releases);
  if (!buffer) {
    if (access == Access::kReadOrConstant && !m.reserves(address)) return;
    std::string problem;
    const Place place = search(address, bytes, problem);
    if (!problem.empty()) fail(problem);
    buffer = place.buffer;
    recent.remember(address, place);
  }
  const bool waited = machine().block().waited_for_previous;
  const bool writes = access == Access::kWrite || access == Access::kAtomic;
  if (!waited && (writes || buffer->written_by == m.kernel - 1))
    fail(" of a device buffer before previous_kernel_wait, while the kernel before this one may still use it");
  if (writes) buffer->written_by = m.kernel;
  using Kind = AccessRecord::Kind;
  const Kind kind = access == Access::kAtomic ? Kind::kAtomic : writes ? Kind::kWrite : Kind::kRead;
  buffer->accesses.add(address - buffer->begin, bytes, kind, machine().current().id, operation);
}

}  // namespace usmlite::emu::global_memory
