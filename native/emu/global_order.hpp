// Order between thread blocks of a kernel, which only global memory gives: a block that has written something fences it
// (ptx::global_fence) and adds to a counter (ptx::atomic_add); a block that adds to the same counter later, and fences
// after that, may read it. Within a cluster MemoryOrder knows what is ordered.
//
// Clusters run one after another here, and moments of MemoryOrder go on from one to the next, so a moment says which
// cluster an access was of.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "emu/memory_order.hpp"

namespace usmlite::emu {

class GlobalOrder {
 public:
  explicit GlobalOrder(MemoryOrder& order) : order_(order) {}

  void begin_kernel();
  void begin_cluster(int threads);

  /// Whether a moment is of the running kernel, or of the running cluster.
  bool in_kernel(uint32_t clock) const { return clock >= kernel_; }
  bool in_cluster(uint32_t clock) const { return clock >= cluster_; }

  void fence(int thread);
  void atomic(const void* address, int thread);

  /// Whether an access at `clock` by `other`, of this or an earlier cluster, is over for `thread`.
  bool is_known(int other, uint32_t clock, int thread) const {
    return in_cluster(clock) ? order_.known(other, clock, thread) : was_acquired(other, clock, thread);
  }

 private:
  /// What an addition to a counter tells who adds later: of each thread of its cluster, what it did before its last fence.
  struct Release {
    uint32_t cluster;                // its first moment
    std::vector<uint32_t> fenced;    // per thread: the moment
  };
  using Releases = std::vector<std::shared_ptr<const Release>>;
  /// An addition that found others before it. What they tell counts for threads that fence after they know of it.
  struct Acquisition {
    int thread;
    uint32_t clock;
    Releases releases;
  };

  bool was_acquired(int other, uint32_t clock, int thread) const;

  MemoryOrder& order_;
  uint32_t kernel_ = 0, cluster_ = 0;  // their first moments
  std::vector<uint32_t> fences_;       // per thread: the moment of the last, or 0
  std::map<const void*, Releases> counters_;
  std::vector<Acquisition> acquisitions_;      // of the running cluster
  std::vector<std::vector<size_t>> acquired_;  // per thread: those of them that it knew of at its last fence
};

}  // namespace usmlite::emu
