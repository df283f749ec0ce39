// Hand-overs of stages in shared memory between threads that copy by cp.async and meet at barriers, as kernels for few tokens
// have them: right, and wrong in one step each. nvcc builds them too, so that compute-sanitizer can be asked whether it knows
// the right from the wrong (bench/gpu/pack.sh).
#include "emulator_misuse.hpp"

namespace usmlite::check {

namespace {

using namespace cuda;

enum class Ring {
  kRight,
  kOneTeam,  // right too
  kStores,   // right too
  kNoWait,
  kPendingTooMany,
  kWaitAfterBarrier,
  kNoBarrier,
  kRefilledEarly,
  kSumsEarly,
  kSumsReadEarly,
  kTeamBarrier
};

/// Two stages of 16 bytes for each of 128 threads. Each thread reads what the one before it copied, round after round; then
/// their sums take the place of the ring. Of two teams, which share nothing in the ring, the second has more rounds.
template <Ring Mistake> __global__ void ring(uint32_t* to) {
  constexpr int kThreads = 128, kTeamThreads = Mistake == Ring::kOneTeam ? kThreads : kThreads / 2, kStageWords = kThreads * 4;
  const int team = self() / kTeamThreads, before = self() % kTeamThreads ? self() - 1 : self(), rounds = 4 + team;
  const auto fetch = [&](int round) {
    uint32_t* const place = words() + round % 2 * kStageWords + self() * 4;
    const uint32_t* const from = to + self() % 64 / 4 * 4;
    if (round < rounds && Mistake == Ring::kStores) *place = *from;
    else if (round < rounds) ptx::copy_async_16(place, from);
    ptx::copy_async_commit();
  };
  const auto meet = [&](bool as_team) {
    if (as_team) ptx::named_barrier_sync(1 + team, kTeamThreads);
    else ptx::block_sync();
  };
  uint32_t sum = 0;
  fetch(0);
  if (Mistake == Ring::kRefilledEarly) fetch(1);
  for (int round = 0; round < rounds; ++round) {
    if (Mistake == Ring::kPendingTooMany) ptx::copy_async_wait<1>();
    else if (Mistake != Ring::kNoWait && Mistake != Ring::kWaitAfterBarrier) ptx::copy_async_wait<0>();
    if (Mistake != Ring::kNoBarrier) meet(Mistake != Ring::kOneTeam);
    if (Mistake == Ring::kWaitAfterBarrier) ptx::copy_async_wait<0>();
    if (Mistake != Ring::kRefilledEarly) fetch(round + 1);
    sum += words()[round % 2 * kStageWords + before * 4];
    if (Mistake == Ring::kRefilledEarly) fetch(round + 2);  // into the stage that others still read
  }
  ptx::copy_async_wait<0>();
  if (Mistake != Ring::kSumsEarly) meet(false);
  words()[(self() + 1) % kThreads * 4] = sum;
  if (Mistake != Ring::kSumsReadEarly) meet(Mistake == Ring::kTeamBarrier);
  const uint32_t other = words()[self() * 4];
  if (self() < 64) to[self()] = other;
}

}  // namespace

void attempt_misuse_of_rings() {
  attempt_kernel("ring right", ring<Ring::kRight>, 128);
  attempt_kernel("ring right in one team", ring<Ring::kOneTeam>, 128);
  attempt_kernel("ring right with stores", ring<Ring::kStores>, 128);
  attempt_kernel("ring without wait", ring<Ring::kNoWait>, 128);
  attempt_kernel("ring with one group pending too many", ring<Ring::kPendingTooMany>, 128);
  attempt_kernel("ring with wait after barrier", ring<Ring::kWaitAfterBarrier>, 128);
  attempt_kernel("ring without barrier", ring<Ring::kNoBarrier>, 128);
  attempt_kernel("ring refilled while it is read", ring<Ring::kRefilledEarly>, 128);
  attempt_kernel("ring overwritten by sums", ring<Ring::kSumsEarly>, 128);
  attempt_kernel("sums read without barrier", ring<Ring::kSumsReadEarly>, 128);
  attempt_kernel("sums read behind the barrier of a team", ring<Ring::kTeamBarrier>, 128);
}

}  // namespace usmlite::check
