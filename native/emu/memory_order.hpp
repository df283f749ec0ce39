// Which accesses to shared memory are ordered, by vector clocks: a thread's access is known to another thread once a
// barrier, named barrier, mbarrier or warp_sync leads from the one to the other.
//
// Threads are those of all blocks of a cluster. Besides them there are parties that act for several: each mbarrier's
// copies, and each warp as a whole (matrix loads, asynchronous products), whose reads are over for all lanes when they are
// for one.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace usmlite::emu {

/// For each party, the moment up to which its accesses are known.
using VectorClock = std::vector<uint32_t>;

class MemoryOrder {
 public:
  static constexpr int kMostBarriers = 32;  // per block

  /// Moments go on from kernel to kernel and from cluster to cluster, within an era. Returns the first of the kernel.
  uint32_t begin_kernel();
  void begin(int blocks, int threads_per_block);
  uint32_t era() const { return era_; }

  int copies_of(int block, int barrier) const { return threads_ + block * kMostBarriers + barrier; }
  int warp(int index) const { return first_warp_ + index; }
  int threads() const { return threads_; }
  /// The warp that is this party, or -1.
  int warp_of(int party) const { return party < first_warp_ ? -1 : party - first_warp_; }

  /// What accesses of `thread` are stamped with.
  uint32_t clock(int thread) const { return clock_[thread]; }
  bool known(int party, uint32_t clock, int thread) const {
    return party == thread || known_[thread][party] >= clock || clock <= floor_of(thread)[party];
  }
  /// The last moment of a thread that `thread` knows.
  uint32_t last_known(int other, int thread) const {
    return other == thread ? clock_[thread] : std::max(known_[thread][other], floor_of(thread)[other]);
  }

  /// A new moment, later than all others.
  uint32_t tick() { return ++now_; }
  /// What `thread` does from now on is later than what it did; returns the moment of the latter.
  uint32_t advance(int thread);
  /// `thread` learns of what its own warp did up to `clock`.
  void learn(int thread, int warp, uint32_t clock);

  /// What `thread` did and knows is added to `clock`; what it does from now on is later.
  void release(int thread, VectorClock& clock);
  /// A copy of this party has come, now; returns the moment.
  uint32_t release_copy(int party, VectorClock& clock);
  void acquire(int thread, const VectorClock& clock);
  /// These threads meet.
  void synchronize(const std::vector<int>& threads);
  /// All threads of a block meet, or of all blocks.
  void synchronize_block(int block);
  void synchronize_cluster();

 private:
  const VectorClock& floor_of(int thread) const { return floors_[floors_.size() == 1 ? 0 : thread / threads_per_block_]; }
  /// What threads from `first` on know of parties is added to what all threads of `block` know.
  void raise_floor(int block, int first_thread, int threads, uint32_t before);

  int threads_ = 0, threads_per_block_ = 0, first_warp_ = 0;
  uint32_t now_ = 0, era_ = 0;
  std::vector<VectorClock> floors_;  // what every thread of a block knows
  std::vector<uint32_t> clock_;
  std::vector<VectorClock> known_;
  VectorClock met_;             // of `synchronize`, kept for its memory
  std::vector<char> acquired_;  // per thread: whether it may know more than its floor of copies and of other blocks
};

}  // namespace usmlite::emu
