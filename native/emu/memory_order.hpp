// Which accesses to shared memory are ordered, by vector clocks: a thread's access is known to another thread once a
// barrier, named barrier, mbarrier or warp_sync leads from the one to the other.
//
// Besides the threads there are parties that act for several of them: each mbarrier's copies, and each warp as a whole
// (matrix loads, asynchronous products), whose reads are over for all lanes when they are for one.
#pragma once
#include <cstdint>
#include <vector>

namespace usmlite::emu {

/// For each party, the moment up to which its accesses are known.
using VectorClock = std::vector<uint32_t>;

class MemoryOrder {
 public:
  static constexpr int kMostBarriers = 64;

  void begin_block(int threads);

  int copies_of(int barrier) const { return threads_ + barrier; }
  int warp(int index) const { return threads_ + kMostBarriers + index; }
  int threads() const { return threads_; }

  /// What accesses of `thread` are stamped with.
  uint32_t clock(int thread) const { return clock_[thread]; }
  bool known(int party, uint32_t clock, int thread) const {
    return clock <= floor_[party] || party == thread || known_[thread][party] >= clock;
  }

  /// A new moment, later than all others.
  uint32_t tick() { return ++now_; }
  uint32_t now() const { return now_; }
  /// `thread` learns of what `party` did up to `clock`.
  void learn(int thread, int party, uint32_t clock);

  /// What `thread` did and knows is added to `clock`; what it does from now on is later.
  void release(int thread, VectorClock& clock);
  /// A copy of this party has come, now; returns the moment.
  uint32_t release_copy(int party, VectorClock& clock);
  void acquire(int thread, const VectorClock& clock);
  /// These threads meet.
  void synchronize(const std::vector<int>& threads);
  /// All threads meet.
  void synchronize_all();

 private:
  int threads_ = 0;
  uint32_t now_ = 0;
  VectorClock floor_;  // what every thread knows
  std::vector<uint32_t> clock_;
  std::vector<VectorClock> known_;
};

}  // namespace usmlite::emu
