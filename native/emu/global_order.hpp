// Order between thread blocks of a kernel, which only counters in global memory give (ptx::atomic_add of whole numbers, which
// releases and acquires): what a thread did or knows of before it adds is over for those that add later, and for those that
// learn of that addition. Between threads of one cluster only what MemoryOrder knows counts.
//
// Clusters run one after another here, and moments of MemoryOrder go on from one to the next, so a moment says which
// cluster an access was of.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "emu/memory_order.hpp"

namespace usmlite::emu {

class GlobalOrder {
 public:
  explicit GlobalOrder(MemoryOrder& order) : order_(order) {}

  void begin_kernel();
  void begin_cluster();

  /// Whether a moment is of the running kernel, or of the running cluster.
  bool in_kernel(uint32_t clock) const { return clock >= kernel_; }
  bool in_cluster(uint32_t clock) const { return clock >= cluster_; }

  /// `thread` adds to a counter.
  void add(const void* counter, int thread);

  /// Whether an access at `clock` by `other`, of this or an earlier cluster, is over for `thread`.
  bool is_known(int other, uint32_t clock, int thread) const {
    return in_cluster(clock) ? order_.known(other, clock, thread) : was_acquired(other, clock, thread);
  }

 private:
  /// What an addition tells those that add later.
  struct Release {
    uint32_t cluster;  // its first moment
    int thread;
    VectorClock known;  // per thread of the cluster: up to which moment
  };
  using Releases = std::set<std::shared_ptr<const Release>>;
  /// An addition that found others, of earlier clusters, before it.
  struct Acquisition {
    int thread;
    uint32_t clock;
    Releases releases;
  };

  bool was_acquired(int other, uint32_t clock, int thread) const;

  MemoryOrder& order_;
  uint32_t kernel_ = 0, cluster_ = 0;  // their first moments
  std::map<const void*, Releases> counters_;
  std::vector<Acquisition> acquisitions_;  // of the running cluster
};

}  // namespace usmlite::emu
