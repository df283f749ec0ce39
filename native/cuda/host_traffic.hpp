// What passes between this process and the GPU: copies, and waits of the host. The real driver counts and the emulated one, so that it can be
// told, and tested, what goes back and forth.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace usmlite::cuda {

/// Since the process began, by all its threads.
struct HostTraffic {
  struct Copies {
    std::atomic<int64_t> count{0}, bytes{0};

    void add(size_t size) {
      count.fetch_add(1, std::memory_order_relaxed);
      bytes.fetch_add(static_cast<int64_t>(size), std::memory_order_relaxed);
    }
  };

  Copies to_device, to_host;
  std::atomic<int64_t> waits{0};
};

inline constinit HostTraffic host_traffic;

}  // namespace usmlite::cuda
