// Wrong hand-overs of stages in shared memory. Two rings are right but for one step each: of cp.async, whose threads meet at
// a barrier, as kernels for few tokens have it, and of the copy engine, whose producer and consumers wait for mbarriers, as
// those for many tokens on Hopper have it.
#include "emulator_misuse.hpp"

namespace usmlite::check {

namespace {

using namespace cuda;

// ---- a ring of two stages, filled by all 64 threads: 16 bytes each ----

enum class Ring { kRight, kNoWait, kPendingTooMany, kWaitAfterBarrier, kNoBarrier, kRefilledEarly, kSumsEarly, kSumsReadEarly, kTeamBarrier };

constexpr int kStageWords = 256, kRounds = 4;

/// Each thread reads what the one before it copied, round after round; then their sums take the place of the ring.
template <Ring Mistake> __global__ void ring(uint32_t* to) {
  constexpr int kTeamThreads = 32;  // of two teams, which share nothing in the ring
  const int team = self() / kTeamThreads, before = self() % kTeamThreads ? self() - 1 : self();
  const auto fetch = [&](int round) {
    if (round < kRounds) ptx::copy_async_16(words() + round % 2 * kStageWords + self() * 4, to + self() / 4 * 4);
    ptx::copy_async_commit();
  };
  uint32_t sum = 0;
  fetch(0);
  if (Mistake == Ring::kRefilledEarly) fetch(1);
  for (int round = 0; round < kRounds; ++round) {
    if (Mistake == Ring::kPendingTooMany) ptx::copy_async_wait<1>();
    else if (Mistake != Ring::kNoWait && Mistake != Ring::kWaitAfterBarrier) ptx::copy_async_wait<0>();
    if (Mistake != Ring::kNoBarrier) ptx::named_barrier_sync(1 + team, kTeamThreads);
    if (Mistake == Ring::kWaitAfterBarrier) ptx::copy_async_wait<0>();
    if (Mistake != Ring::kRefilledEarly) fetch(round + 1);
    sum += words()[round % 2 * kStageWords + before * 4];
    if (Mistake == Ring::kRefilledEarly) fetch(round + 2);  // into the stage that others still read
  }
  ptx::copy_async_wait<0>();
  const auto meet = [&](bool wrong) {
    if (wrong) ptx::named_barrier_sync(1 + team, kTeamThreads);
    else ptx::block_sync();
  };
  if (Mistake != Ring::kSumsEarly) ptx::block_sync();
  words()[(self() + 1) % 64 * 4] = sum;
  if (Mistake != Ring::kSumsReadEarly) meet(Mistake == Ring::kTeamBarrier);
  to[self()] = words()[self() * 4];
}

// ---- a ring of one stage: warp 0 has the copy engine fill it, warp 1 reads it ----

enum class Engine { kRight, kNoFullWait, kNoEmptyWait, kWrongParity, kPhaseBehind, kEarlyArrival };

template <Engine Mistake> __global__ void engine(uint32_t* to) {
  uint64_t* const full = reinterpret_cast<uint64_t*>(shared_memory() + 2048);
  uint64_t* const empty = full + 1;
  if (self() == 0) {
    ptx::barrier_init(full, 1);
    ptx::barrier_init(empty, 32);
    ptx::barrier_init_fence();
  }
  ptx::block_sync();
  for (uint32_t round = 0; round < kRounds; ++round) {
    const uint32_t parity = round % 2;
    if (self() == 0) {
      if (Mistake != Engine::kNoEmptyWait) ptx::barrier_wait(empty, parity ^ 1);
      ptx::barrier_arrive_expect(full, 256);
      ptx::bulk_copy(words(), to, 256, full);
    }
    if (self() >= 32) {
      if (Mistake == Engine::kWrongParity) ptx::barrier_wait(full, parity ^ 1);
      else if (Mistake == Engine::kPhaseBehind) ptx::barrier_wait(full, 0);
      else if (Mistake != Engine::kNoFullWait) ptx::barrier_wait(full, parity);
      if (Mistake == Engine::kEarlyArrival) ptx::barrier_arrive(empty);
      to[self()] = words()[63 - self()];
      if (Mistake != Engine::kEarlyArrival) ptx::barrier_arrive(empty);
    }
  }
}

}  // namespace

void attempt_misuse_of_rings() {
  attempt_kernel("ring right", ring<Ring::kRight>);
  attempt_kernel("ring without wait", ring<Ring::kNoWait>);
  attempt_kernel("ring with one group pending too many", ring<Ring::kPendingTooMany>);
  attempt_kernel("ring with wait after barrier", ring<Ring::kWaitAfterBarrier>);
  attempt_kernel("ring without barrier", ring<Ring::kNoBarrier>);
  attempt_kernel("ring refilled while it is read", ring<Ring::kRefilledEarly>);
  attempt_kernel("ring overwritten by sums", ring<Ring::kSumsEarly>);
  attempt_kernel("sums read without barrier", ring<Ring::kSumsReadEarly>);
  attempt_kernel("sums read behind the barrier of a team", ring<Ring::kTeamBarrier>);

  attempt_kernel("engine right", engine<Engine::kRight>);
  attempt_kernel("engine without wait for full", engine<Engine::kNoFullWait>);
  attempt_kernel("engine without wait for empty", engine<Engine::kNoEmptyWait>);
  attempt_kernel("engine with wrong parity", engine<Engine::kWrongParity>);
  attempt_kernel("engine one phase behind", engine<Engine::kPhaseBehind>);
  attempt_kernel("engine freed before it is read", engine<Engine::kEarlyArrival>);
}

}  // namespace usmlite::check
