// mbarriers: phases that end when all arrivals and all bytes of copies have come.
#include "emu/asynchronous_copy.hpp"
#include "emu/capability.hpp"
#include "emu/machine.hpp"

namespace usmlite::emu {

void AsynchronousCopies::init(uint64_t* barrier, uint32_t arrivals) {
  need_hopper("barrier_init");
  const int self = machine().current().id;
  SharedMemory& shared = machine().shared();
  const uint32_t offset = shared.offset_of(barrier, 8, 8, "barrier_init");
  if (arrivals == 0 || arrivals >= 1u << 20)
    machine().fail("barrier_init with " + std::to_string(arrivals) + " arrivals; from 1 to 2^20 - 1 are possible");
  std::vector<Barrier>& barriers = barriers_[machine().current().block];
  if (barriers.size() == MemoryOrder::kMostBarriers)
    machine().fail("more mbarriers than the emulator follows (" + std::to_string(MemoryOrder::kMostBarriers) + ")");
  shared.place_barrier(self, offset);
  Barrier made{};
  made.offset = offset;
  made.arrivals = made.missing = arrivals;
  made.creator = self;
  made.creation_clock = machine().order().clock(self);
  barriers.push_back(std::move(made));
}

void AsynchronousCopies::init_fence() {
  for (Barrier& barrier : barriers_[machine().current().block])
    if (barrier.creator == machine().current().id) barrier.fenced = true;
}

AsynchronousCopies::Barrier& AsynchronousCopies::find(uint64_t* barrier, const char* operation, int place) {
  const uint32_t offset = machine().shared().offset_of(barrier, 8, 8, operation);
  if (place < 0 || place >= machine().blocks())
    machine().fail(std::string(operation) + " for block " + std::to_string(place) + " of a cluster of " +
                   std::to_string(machine().blocks()));
  if (machine().block(place).alive == 0)
    machine().fail(std::string(operation) + " for block " + std::to_string(place) + " of the cluster, which has ended");
  for (Barrier& known : barriers_[place]) {
    if (known.offset != offset) continue;
    if (!machine().order().known(known.creator, known.creation_clock, machine().current().id))
      machine().fail(std::string(operation) + " on the mbarrier at byte " + std::to_string(offset) +
                     " of shared memory, with no barrier between that and barrier_init by " +
                     machine().describe(known.creator));
    return known;
  }
  machine().fail(std::string(operation) + " at byte " + std::to_string(offset) +
                 " of shared memory, where no mbarrier was initialised");
}

AsynchronousCopies::Barrier& AsynchronousCopies::find(uint64_t* barrier, const char* operation) {
  return find(barrier, operation, machine().current().block);
}

void AsynchronousCopies::end_phase_if_complete(Barrier& barrier) {
  if (barrier.missing > 0 || barrier.missing_bytes != 0) return;
  ++barrier.phase;
  barrier.missing = barrier.arrivals;
  barrier.released = barrier.arriving;
  std::vector<std::pair<int, uint32_t>> still;
  for (const auto& [thread, parity] : barrier.waiting) {
    if ((barrier.phase & 1) != parity) {
      machine().order().acquire(thread, barrier.released);
      machine().resume(thread);
    } else {
      still.emplace_back(thread, parity);
    }
  }
  barrier.waiting = std::move(still);
}

void AsynchronousCopies::arrive(uint64_t* pointer, uint32_t expected_bytes, int place) {
  Barrier& barrier = find(pointer, "barrier_arrive", place);
  if (barrier.missing == 0)
    machine().fail("one more arrival at the mbarrier at byte " + std::to_string(barrier.offset) +
                   " of shared memory than the " + std::to_string(barrier.arrivals) + " of its phase");
  machine().order().release(machine().current().id, barrier.arriving);
  barrier.missing_bytes += expected_bytes;
  --barrier.missing;
  end_phase_if_complete(barrier);
}

void AsynchronousCopies::wait(uint64_t* pointer, uint32_t parity) {
  Barrier& barrier = find(pointer, "barrier_wait");
  const int self = machine().current().id;
  if (parity > 1) machine().fail("barrier_wait for parity " + std::to_string(parity) + "; it is 0 or 1");
  if ((barrier.phase & 1) != parity) {
    machine().order().acquire(self, barrier.released);
    return;
  }
  barrier.waiting.emplace_back(self, parity);
  machine().wait("barrier_wait");
}

}  // namespace usmlite::emu

namespace usmlite::cuda::ptx {

namespace {
emu::AsynchronousCopies& copies() { return emu::machine().copies(); }
}  // namespace

void barrier_init(uint64_t* barrier, uint32_t arrivals) { copies().init(barrier, arrivals); }
void barrier_init_fence() { copies().init_fence(); }
void barrier_arrive(uint64_t* barrier) { copies().arrive(barrier, 0, cluster_rank()); }
void barrier_arrive_expect(uint64_t* barrier, uint32_t bytes) { copies().arrive(barrier, bytes, cluster_rank()); }
void barrier_arrive_cluster(uint64_t* barrier, int rank) { copies().arrive(barrier, 0, rank); }
void barrier_wait(uint64_t* barrier, uint32_t parity) { copies().wait(barrier, parity); }
int cluster_rank() { return emu::machine().current().block; }
void cluster_sync() { emu::machine().cluster_barrier(); }

}  // namespace usmlite::cuda::ptx
