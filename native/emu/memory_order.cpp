#include "emu/memory_order.hpp"

#include <algorithm>

namespace usmlite::emu {

namespace {

/// For the parties from `begin` to `end`.
[[gnu::target_clones("avx2", "default")]] void merge(VectorClock& into, const VectorClock& from, int begin, int end) {
  uint32_t* a = into.data();
  const uint32_t* b = from.data();
  for (int i = begin; i < end; ++i) a[i] = std::max(a[i], b[i]);
}

void merge(VectorClock& into, const VectorClock& from) { merge(into, from, 0, static_cast<int>(into.size())); }

}  // namespace

uint32_t MemoryOrder::begin_kernel() {
  if (now_ > UINT32_MAX / 2) {  // so that moments never begin anew within a kernel
    now_ = 0;
    ++era_;
    known_.clear();
  }
  return ++now_;
}

void MemoryOrder::begin(int blocks, int threads_per_block) {
  threads_per_block_ = threads_per_block;
  threads_ = blocks * threads_per_block;
  first_warp_ = threads_ + blocks * kMostBarriers;
  const size_t parties = static_cast<size_t>(first_warp_ + threads_ / 32);
  ++now_;
  floors_.resize(blocks);
  for (VectorClock& floor : floors_) floor.assign(parties, now_);
  // What threads knew of those before them, of whichever party, is below the floor.
  if (known_.size() < static_cast<size_t>(threads_)) known_.resize(threads_);
  for (int thread = 0; thread < threads_; ++thread) known_[thread].resize(parties);
  clock_.assign(threads_, ++now_);
  acquired_.assign(threads_, false);
}

uint32_t MemoryOrder::advance(int thread) {
  const uint32_t clock = clock_[thread];
  clock_[thread] = tick();
  return clock;
}

void MemoryOrder::learn(int thread, int warp, uint32_t clock) {
  uint32_t& known = known_[thread][this->warp(warp)];
  known = std::max(known, clock);
}

void MemoryOrder::release(int thread, VectorClock& clock) {
  clock.resize(floors_[0].size());
  merge(clock, known_[thread]);
  clock[thread] = std::max(clock[thread], clock_[thread]);
  clock_[thread] = tick();
}

uint32_t MemoryOrder::release_copy(int party, VectorClock& clock) {
  clock.resize(floors_[0].size());
  return clock[party] = tick();
}

void MemoryOrder::acquire(int thread, const VectorClock& clock) {
  if (clock.empty()) return;
  merge(known_[thread], clock);
  acquired_[thread] = true;
}

void MemoryOrder::synchronize(const std::vector<int>& threads) {
  VectorClock& all = met_;
  all.assign(floors_[0].size(), 0);
  bool acquired = false;
  for (const int thread : threads) {
    release(thread, all);
    acquired |= acquired_[thread] != 0;
  }
  for (const int thread : threads) {
    known_[thread] = all;
    acquired_[thread] = acquired;
  }
}

void MemoryOrder::raise_floor(int block, int first_thread, int threads, uint32_t before) {
  VectorClock& floor = floors_[block];
  // Of copies, and of other blocks, what any thread learned; of threads and warps that meet, all that happened.
  const int parties = static_cast<int>(floor.size()), first_warp = first_warp_ + first_thread / 32, warps = threads / 32;
  for (int thread = first_thread; thread < first_thread + threads; ++thread) {
    if (!acquired_[thread]) continue;
    acquired_[thread] = false;
    const VectorClock& known = known_[thread];
    merge(floor, known, 0, first_thread);
    merge(floor, known, first_thread + threads, first_warp);
    merge(floor, known, first_warp + warps, parties);
  }
  std::fill_n(floor.begin() + first_thread, threads, before);
  std::fill_n(floor.begin() + first_warp, warps, before);
}

void MemoryOrder::synchronize_block(int block) {
  const int first = block * threads_per_block_;
  raise_floor(block, first, threads_per_block_, now_);
  std::fill_n(clock_.begin() + first, threads_per_block_, tick());
}

void MemoryOrder::synchronize_cluster() {
  for (const VectorClock& floor : floors_) merge(floors_[0], floor);
  raise_floor(0, 0, threads_, now_);
  for (VectorClock& floor : floors_) floor = floors_[0];
  std::fill(clock_.begin(), clock_.end(), tick());
}

}  // namespace usmlite::emu
