#include "emu/machine.hpp"

#include <algorithm>
#include <mutex>
#include <string_view>
#include <utility>

#include "core/error.hpp"
#include "emu/asynchronous_copy.hpp"
#include "emu/capability.hpp"
#include "emu/global_memory.hpp"
#include "emu/warpgroup_product.hpp"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace usmlite::emu {

constinit thread_local Thread* running_thread = nullptr;

Machine::Machine() : copies_(std::make_unique<AsynchronousCopies>()), products_(std::make_unique<AsynchronousProducts>()) {}
Machine::~Machine() = default;

std::string Machine::place() const {
  return std::string(grid_->kernel) + ": block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
         std::to_string(blockIdx.z) + ")";
}

std::string Machine::describe(int thread) const {
  const int block = thread / threads_per_block();
  const std::string name = "thread " + std::to_string(thread % threads_per_block());
  return block == current_->block ? name : name + " of block " + std::to_string(block) + " of the cluster";
}

void Machine::fail(const std::string& sentence, int thread) {
  running_thread = nullptr;
  failure_ = std::make_exception_ptr(Error(error_code::kGpuFailed, place() + ", " + describe(thread) + ": " + sentence));
  FiberContext abandoned;
  usmlite_switch_fiber(&abandoned, scheduler_);
  __builtin_unreachable();
}

void Machine::run(const Grid& grid) {
  constexpr unsigned int kMostThreads = 1024, kMostBlocks = 8, kMostInYOrZ = 65535;
  grid_ = &grid;
  const auto refuse = [&](const std::string& sentence) {
    throw Error(error_code::kGpuFailed, std::string(grid.kernel) + ": " + sentence);
  };
  if (grid.threads == 0 || grid.threads > kMostThreads || grid.threads % 32 != 0)
    refuse("a block must have whole warps and at most 1024 threads, not " + std::to_string(grid.threads) + " threads");
  if (grid.shared_bytes > capability().shared_bytes)
    refuse(std::to_string(grid.shared_bytes) + " bytes of shared memory are more than the " +
           std::to_string(capability().shared_bytes) + " of a block");
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) refuse("the grid has no blocks");
  if (grid.blocks.y > kMostInYOrZ || grid.blocks.z > kMostInYOrZ) refuse("a grid may have at most 65535 blocks in y and z");
  if (grid.cluster == 0 || grid.cluster > kMostBlocks || grid.blocks.x % grid.cluster != 0)
    refuse("a cluster of " + std::to_string(grid.cluster) +
           " blocks; a cluster has 1 to 8, and they divide the grid in x, which has " + std::to_string(grid.blocks.x));
  if (grid.cluster > 1 && capability().number != 90) refuse("clusters are for compute capability 9.0");
  const int threads = static_cast<int>(grid.cluster * grid.threads);
  if (threads > FiberStacks::kStacks)
    refuse("a cluster of " + std::to_string(threads) + " threads is more than the emulator can run");

  global_memory::begin_kernel();
  global_order_.begin_kernel();
  threads_.resize(threads);
  ready_.resize(threads);
  while (blocks_.size() < grid.cluster) blocks_.push_back(std::make_unique<Block>());
  gridDim = grid.blocks;
  blockDim = {grid.threads, 1, 1};
  for (unsigned int z = 0; z < grid.blocks.z; ++z)
    for (unsigned int y = 0; y < grid.blocks.y; ++y)
      for (unsigned int x = 0; x < grid.blocks.x; x += grid.cluster) run_cluster({x, y, z});
}

void Machine::run_cluster(uint3 first_block) {
  const int count = static_cast<int>(threads_.size());
  global_order_.begin_cluster();
  order_.begin(blocks(), threads_per_block());
  copies_->begin(blocks(), count);
  products_->begin(count);
  warps_.assign(count / 32, Meeting{});
  warpgroups_.assign(count / 32, Meeting{});
  at_cluster_barrier_.clear();
  for (int place = 0; place < blocks(); ++place) {
    Block& block = *blocks_[place];
    block.index = {first_block.x + static_cast<unsigned int>(place), first_block.y, first_block.z};
    block.first_thread = place * threads_per_block();
    block.alive = threads_per_block();
    block.waited_for_previous = !grid_->overlaps_previous;
    block.at_barrier.clear();
    for (Block::NamedBarrier& barrier : block.named_barriers) barrier.waiting.clear();
    block.shared.begin(static_cast<uint32_t>(grid_->shared_bytes), order_);
  }
  for (int id = 0; id < count; ++id) {
    threads_[id] = {stacks_.prepare(id, enter_fiber), id, id / threads_per_block(), false, nullptr, false, 0, 0};
    ready_[id] = id;
  }
  ready_first_ = 0;
  ready_count_ = alive_ = count;
  spins_ = 0;
  failure_ = nullptr;

  while (alive_ > 0 && !failure_) {
    if (ready_count_ == 0 && !copies_->deliver_oldest()) report_stuck();
    if (ready_count_ > 0) switch_to_next(&scheduler_);
    running_thread = nullptr;
  }
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  copies_->end(place());
  products_->end(place());
}

void Machine::enter_fiber() {
  Machine& self = machine();
  try {
    self.grid_->call(self.grid_->arguments);
  } catch (const std::exception& error) {
    self.failure_ = std::make_exception_ptr(
        Error(error_code::kGpuFailed, self.place() + ", " + self.describe(self.current_->id) + ": " + error.what()));
  }
  self.finish_current();
}

void Machine::finish_current() {
  current_->done = true;
  --alive_;
  Block& own = block();
  --own.alive;
  if (!own.at_barrier.empty() && static_cast<int>(own.at_barrier.size()) == own.alive) complete_block_barrier(own);
  FiberContext ended;
  if (failure_) usmlite_switch_fiber(&ended, scheduler_);
  switch_to_next(&ended);
  __builtin_unreachable();
}

/// Leaves the running fiber for the next that can run, or for the scheduler when there is none.
void Machine::switch_to_next(FiberContext* from) {
  if (ready_count_ == 0) {
    usmlite_switch_fiber(from, scheduler_);
    return;
  }
  current_ = &threads_[ready_[ready_first_]];
  if (++ready_first_ == ready_.size()) ready_first_ = 0;
  --ready_count_;
  running_thread = current_;
  const Block& next = block();
  threadIdx = {static_cast<unsigned int>(current_->id - next.first_thread), 0, 0};
  blockIdx = next.index;
  usmlite_switch_fiber(from, current_->context);
}

void Machine::wait(const char* operation) {
  Thread* const self = current_;
  self->waits_at = operation;
  switch_to_next(&self->context);
}

void Machine::resume(int thread) {
  threads_[thread].waits_at = nullptr;
  size_t place = ready_first_ + ready_count_;
  if (place >= ready_.size()) place -= ready_.size();
  ready_[place] = thread;
  ++ready_count_;
}

void Machine::meet(Meeting& meeting, int first, int size, const char* operation, void* operands,
                   void (*perform)(int first_thread, void* const* operands)) {
  if (meeting.arrived == 0) {
    meeting.operation = operation;
  } else if (meeting.operation != operation) {
    fail("came to " + std::string(operation) + " while other threads of its " + (size == 32 ? "warp" : "warpgroup") +
         " wait at " + meeting.operation + "; all must take part in the same");
  }
  const int lane = current_->id - first;
  meeting.operands[lane] = operands;
  if (++meeting.arrived < size) {
    wait(operation);
    return;
  }
  meeting.arrived = 0;
  perform(first, meeting.operands);
  for (int i = 0; i < size; ++i)
    if (i != lane) resume(first + i);
}

void Machine::meet_warp(const char* operation, void* operands, void (*perform)(int first_thread, void* const* operands)) {
  const int warp = current_->id / 32;
  meet(warps_[warp], warp * 32, 32, operation, operands, perform);
}

int Machine::warpgroup(const char* operation) {
  const int in_block = current_->id - block().first_thread, first = in_block / 128 * 128;
  if (first + 128 > threads_per_block())
    fail(std::string(operation) + " needs a warpgroup of 128 threads, and this thread is in none");
  return block().first_thread + first;
}

void Machine::meet_warpgroup(const char* operation, void* operands, void (*perform)(int first_thread, void* const* operands)) {
  const int first = warpgroup(operation);
  meet(warpgroups_[first / 32], first, 128, operation, operands, perform);
}

void Machine::complete_block_barrier(Block& block) {
  order_.synchronize_block(block.first_thread / threads_per_block());
  for (const int id : block.at_barrier)
    if (&threads_[id] != current_) resume(id);
  block.at_barrier.clear();
}

void Machine::block_barrier() {
  Block& own = block();
  own.at_barrier.push_back(current_->id);
  if (static_cast<int>(own.at_barrier.size()) == own.alive) {
    complete_block_barrier(own);
  } else {
    wait("block_sync");
  }
}

void Machine::named_barrier(int id, int count) {
  if (id < 1 || id >= Block::kNamedBarriers) fail("named barrier " + std::to_string(id) + " does not exist; 1 to 15 do");
  if (count % 32 != 0 || count <= 0 || count > threads_per_block())
    fail("named barrier " + std::to_string(id) + " cannot wait for " + std::to_string(count) + " threads of a block of " +
         std::to_string(threads_per_block()) + "; whole warps are needed");
  Block::NamedBarrier& barrier = block().named_barriers[id];
  if (barrier.waiting.empty()) barrier.expected = count;
  if (barrier.expected != count)
    fail("waits at named barrier " + std::to_string(id) + " for " + std::to_string(count) + " threads where others wait for " +
         std::to_string(barrier.expected));
  barrier.waiting.push_back(current_->id);
  if (static_cast<int>(barrier.waiting.size()) < count) {
    wait("named_barrier_sync");
    return;
  }
  order_.synchronize(barrier.waiting);
  for (const int waiting : barrier.waiting)
    if (waiting != current_->id) resume(waiting);
  barrier.waiting.clear();
}

void Machine::cluster_barrier() {
  at_cluster_barrier_.push_back(current_->id);
  if (at_cluster_barrier_.size() < threads_.size()) {
    wait("cluster_sync");
    return;
  }
  order_.synchronize_cluster();
  for (const int id : at_cluster_barrier_)
    if (id != current_->id) resume(id);
  at_cluster_barrier_.clear();
}

void Machine::note_spin() {
  constexpr uint64_t kMostSpins = 1'000'000;
  if (++spins_ > kMostSpins)
    fail("atomic_add was called a million times; blocks run one after another here, so waiting for a later one never ends");
  if (ready_count_ == 0) copies_->deliver_oldest();
  resume(current_->id);
  wait(nullptr);
}

void Machine::report_stuck() {
  std::string waits = blocks() == 1 ? "nothing in this block can go on:"
                                    : "nothing in this cluster can go on (threads are numbered through its blocks):";
  // Threads next to each other that wait at the same place are named together.
  const int count = static_cast<int>(threads_.size());
  for (int first = 0; first < count;) {
    const auto where = [&](int id) { return threads_[id].done ? "ended" : threads_[id].waits_at; };
    int last = first;
    while (last + 1 < count && std::string_view(where(last + 1)) == where(first)) ++last;
    waits += std::string(first == 0 ? " thread" : "; thread") + (last > first ? "s " : " ") + std::to_string(first) +
             (last > first ? " to " + std::to_string(last) : "") +
             (threads_[first].done ? " ended" : std::string(" wait") + (last > first ? "" : "s") + " at " + where(first));
    first = last + 1;
  }
  throw Error(error_code::kGpuFailed, place() + ": " + waits);
}

void run_grid(const Grid& grid) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  machine().run(grid);
}

}  // namespace usmlite::emu
