#include "emu/memory_order.hpp"

#include <algorithm>

namespace usmlite::emu {

namespace {

void merge(VectorClock& into, const VectorClock& from) {
  uint32_t* a = into.data();
  const uint32_t* b = from.data();
  for (size_t i = 0, n = into.size(); i < n; ++i) a[i] = std::max(a[i], b[i]);
}

}  // namespace

void MemoryOrder::begin_block(int threads) {
  const size_t parties = static_cast<size_t>(threads + kMostBarriers + (threads + 31) / 32);
  threads_ = threads;
  ++now_;
  floor_.assign(parties, now_);
  // Knowledge of earlier blocks is below the floor.
  if (known_.size() < static_cast<size_t>(threads)) known_.resize(threads);
  if (known_[0].size() != parties) for (VectorClock& known : known_) known.assign(parties, 0);
  clock_.assign(threads, ++now_);
}

void MemoryOrder::learn(int thread, int party, uint32_t clock) { known_[thread][party] = std::max(known_[thread][party], clock); }

void MemoryOrder::release(int thread, VectorClock& clock) {
  clock.resize(floor_.size());
  merge(clock, known_[thread]);
  clock[thread] = std::max(clock[thread], clock_[thread]);
  clock_[thread] = tick();
}

uint32_t MemoryOrder::release_copy(int party, VectorClock& clock) {
  clock.resize(floor_.size());
  return clock[party] = tick();
}

void MemoryOrder::acquire(int thread, const VectorClock& clock) {
  if (!clock.empty()) merge(known_[thread], clock);
}

void MemoryOrder::synchronize(const std::vector<int>& threads) {
  VectorClock all;
  for (const int thread : threads) release(thread, all);
  for (const int thread : threads) known_[thread] = all;
}

void MemoryOrder::synchronize_all() {
  // Threads and warps: all that happened. Copies: what any thread waited for.
  for (int party = threads_; party < threads_ + kMostBarriers; ++party)
    for (int thread = 0; thread < threads_; ++thread) floor_[party] = std::max(floor_[party], known_[thread][party]);
  const uint32_t before = now_;
  for (int thread = 0; thread < threads_; ++thread) floor_[thread] = before;
  for (size_t party = threads_ + kMostBarriers; party < floor_.size(); ++party) floor_[party] = before;
  std::fill(clock_.begin(), clock_.end(), tick());
}

}  // namespace usmlite::emu
