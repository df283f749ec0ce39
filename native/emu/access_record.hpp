// Who read and wrote each place of a device buffer last, in the running kernel.
//
// Reported: two accesses to a byte of which one writes, by threads of one kernel, and which neither a barrier nor
// the counters of GlobalOrder put in order. Of several unordered reads of a place the last two are remembered.
#pragma once
#include <cstddef>
#include <cstdint>

#include "emu/global_order.hpp"

namespace usmlite::emu {

class AccessRecord {
 public:
  explicit AccessRecord(size_t bytes) : bytes_(bytes) {}
  ~AccessRecord() { forget(); }
  AccessRecord(const AccessRecord&) = delete;
  AccessRecord& operator=(const AccessRecord&) = delete;

  /// Atomic accesses are in order with each other.
  enum class Kind : uint8_t { kRead, kWrite, kAtomic };
  void add(size_t offset, size_t bytes, Kind kind, int thread, const char* operation);

 private:
  struct Access {
    uint32_t clock;  // 0: there was none
    uint16_t thread;
    Kind kind;
  };
  /// Of the bytes that accesses have always shared: `granule_` of them.
  struct Place {
    Access write, reads[2];
    uint8_t next_read;
  };

  void forget();
  void narrow(size_t granule);
  [[noreturn]] void report(size_t offset, const char* operation, const Access& other) const;

  size_t bytes_, granule_ = 0;  // a power of two; 0: no access yet
  uint32_t era_ = 0;            // of the moments
  Place* places_ = nullptr;     // zeros that take memory when they are written to
};

}  // namespace usmlite::emu
