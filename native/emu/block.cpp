#include "emu/block.hpp"

#include <algorithm>
#include <mutex>
#include <string_view>
#include <utility>

#include "core/error.hpp"
#include "emu/asynchronous_copy.hpp"
#include "emu/warpgroup_product.hpp"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace usmlite::emu {

Thread* running_thread = nullptr;

Block& block() {
  static Block* const machine = new Block;  // never destroyed: a kernel may run while the process exits
  return *machine;
}

Block::Block() : copies_(std::make_unique<AsynchronousCopies>()), products_(std::make_unique<AsynchronousProducts>()) {}
Block::~Block() = default;

std::string Block::place() const {
  return std::string(grid_->kernel) + ": block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
         std::to_string(blockIdx.z) + ")";
}

void Block::fail(const std::string& sentence) {
  running_thread = nullptr;
  failure_ = std::make_exception_ptr(
      Error(error_code::kGpuFailed, place() + ", thread " + std::to_string(current_->id) + ": " + sentence));
  FiberContext abandoned;
  usmlite_switch_fiber(&abandoned, scheduler_);
  __builtin_unreachable();
}

void Block::run(const Grid& grid) {
  grid_ = &grid;
  const auto refuse = [&](const std::string& sentence) { throw Error(error_code::kGpuFailed, std::string(grid.kernel) + ": " + sentence); };
  if (grid.threads == 0 || grid.threads > FiberStacks::kStacks || grid.threads % 32 != 0)
    refuse("a block must have whole warps and at most 1024 threads, not " + std::to_string(grid.threads) + " threads");
  if (grid.shared_bytes > SharedMemory::kMostBytes)
    refuse(std::to_string(grid.shared_bytes) + " bytes of shared memory are more than the " + std::to_string(SharedMemory::kMostBytes) + " of a block");
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) refuse("the grid has no blocks");
  if (grid.blocks.y > 65535 || grid.blocks.z > 65535) refuse("a grid may have at most 65535 blocks in y and z");

  threads_.resize(grid.threads);
  ready_.resize(grid.threads);
  gridDim = grid.blocks;
  blockDim = {grid.threads, 1, 1};
  for (unsigned int z = 0; z < grid.blocks.z; ++z)
    for (unsigned int y = 0; y < grid.blocks.y; ++y)
      for (unsigned int x = 0; x < grid.blocks.x; ++x) {
        blockIdx = {x, y, z};
        run_block();
      }
}

void Block::run_block() {
  const int count = threads();
  order_.begin_block(count);
  shared_.begin_block(static_cast<uint32_t>(grid_->shared_bytes), order_);
  copies_->begin_block(count);
  products_->begin_block(count);
  warps_.assign(count / 32, Meeting{});
  warpgroups_.assign((count + 127) / 128, Meeting{});
  at_block_barrier_.clear();
  for (NamedBarrier& barrier : named_barriers_) barrier.expected = 0, barrier.waiting.clear();
  for (int id = 0; id < count; ++id) {
    threads_[id] = {stacks_.prepare(id, enter_fiber), id, false, nullptr};
    ready_[id] = id;
  }
  ready_first_ = 0;
  ready_count_ = alive_ = count;
  spins_ = 0;
  failure_ = nullptr;

  while (alive_ > 0 && !failure_) {
    if (ready_count_ == 0 && !copies_->deliver_oldest()) {
      report_stuck();
    }
    switch_to_next(&scheduler_);
    running_thread = nullptr;
  }
  if (!failure_) {
    try {
      copies_->end_block(place());
      products_->end_block(place());
    } catch (...) {
      failure_ = std::current_exception();
    }
  }
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Block::enter_fiber() {
  Block& self = block();
  try {
    self.grid_->call(self.grid_->arguments);
  } catch (const std::exception& error) {
    self.failure_ = std::make_exception_ptr(
        Error(error_code::kGpuFailed, self.place() + ", thread " + std::to_string(self.current_->id) + ": " + error.what()));
  }
  self.finish_current();
}

void Block::finish_current() {
  current_->done = true;
  --alive_;
  if (!at_block_barrier_.empty() && static_cast<int>(at_block_barrier_.size()) == alive_) complete_block_barrier();
  FiberContext ended;
  if (failure_) usmlite_switch_fiber(&ended, scheduler_);
  switch_to_next(&ended);
  __builtin_unreachable();
}

/// Leaves the running fiber for the next that can run, or for the scheduler when there is none.
void Block::switch_to_next(FiberContext* from) {
  if (ready_count_ == 0) {
    usmlite_switch_fiber(from, scheduler_);
    return;
  }
  current_ = &threads_[ready_[ready_first_]];
  if (++ready_first_ == ready_.size()) ready_first_ = 0;
  --ready_count_;
  running_thread = current_;
  threadIdx = {static_cast<unsigned int>(current_->id), 0, 0};
  usmlite_switch_fiber(from, current_->context);
}

void Block::wait(const char* operation) {
  Thread* const self = current_;
  self->waits_at = operation;
  switch_to_next(&self->context);
}

void Block::resume(int thread) {
  threads_[thread].waits_at = nullptr;
  size_t place = ready_first_ + ready_count_;
  if (place >= ready_.size()) place -= ready_.size();
  ready_[place] = thread;
  ++ready_count_;
}

void Block::meet(Meeting& meeting, int first, int size, const char* operation, void* operands,
                 void (*perform)(int group, void* const* operands)) {
  if (meeting.arrived == 0) {
    meeting.operation = operation;
  } else if (meeting.operation != operation) {
    fail("came to " + std::string(operation) + " while other threads of its " + (size == 32 ? "warp" : "warpgroup") + " wait at " +
         meeting.operation + "; all must take part in the same");
  }
  const int lane = current_->id - first;
  meeting.operands[lane] = operands;
  if (++meeting.arrived < size) {
    wait(operation);
    return;
  }
  meeting.arrived = 0;
  perform(first / size, meeting.operands);
  for (int i = 0; i < size; ++i)
    if (i != lane) resume(first + i);
}

void Block::meet_warp(const char* operation, void* operands, void (*perform)(int warp, void* const* operands)) {
  const int warp = current_->id / 32;
  meet(warps_[warp], warp * 32, 32, operation, operands, perform);
}

void Block::meet_warpgroup(const char* operation, void* operands, void (*perform)(int warpgroup, void* const* operands)) {
  const int warpgroup = current_->id / 128;
  if (warpgroup * 128 + 128 > threads()) fail(std::string(operation) + " needs a warpgroup of 128 threads, and this is in none");
  meet(warpgroups_[warpgroup], warpgroup * 128, 128, operation, operands, perform);
}

void Block::complete_block_barrier() {
  order_.synchronize_all();
  for (const int id : at_block_barrier_)
    if (&threads_[id] != current_) resume(id);
  at_block_barrier_.clear();
}

void Block::block_barrier() {
  at_block_barrier_.push_back(current_->id);
  if (static_cast<int>(at_block_barrier_.size()) == alive_) {
    complete_block_barrier();
  } else {
    wait("block_sync");
  }
}

void Block::named_barrier(int id, int count) {
  if (id < 1 || id >= kNamedBarriers) fail("named barrier " + std::to_string(id) + " does not exist; 1 to 15 do");
  if (count % 32 != 0 || count <= 0 || count > threads())
    fail("named barrier " + std::to_string(id) + " cannot wait for " + std::to_string(count) + " threads of a block of " +
         std::to_string(threads()) + "; whole warps are needed");
  NamedBarrier& barrier = named_barriers_[id];
  if (barrier.waiting.empty()) barrier.expected = count;
  if (barrier.expected != count)
    fail("waits at named barrier " + std::to_string(id) + " for " + std::to_string(count) + " threads where others wait for " + std::to_string(barrier.expected));
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

void Block::note_spin() {
  constexpr uint64_t kMostSpins = 1'000'000;
  if (++spins_ > kMostSpins)
    fail("load_acquire was called a million times; blocks run one after another here, so waiting for a later one never ends");
  resume(current_->id);
  wait(nullptr);
}

void Block::report_stuck() {
  std::string waits = "nothing in this block can go on:";
  // Threads next to each other that wait at the same place are named together.
  for (int first = 0; first < threads();) {
    const auto where = [&](int id) { return threads_[id].done ? "ended" : threads_[id].waits_at; };
    int last = first;
    while (last + 1 < threads() && std::string_view(where(last + 1)) == where(first)) ++last;
    waits += std::string(first == 0 ? " thread" : "; thread") + (last > first ? "s " : " ") + std::to_string(first) +
             (last > first ? " to " + std::to_string(last) : "") + (threads_[first].done ? " ended" : std::string(" wait") + (last > first ? "" : "s") + " at " + where(first));
    first = last + 1;
  }
  throw Error(error_code::kGpuFailed, place() + ": " + waits);
}

void run_grid(const Grid& grid) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  block().run(grid);
}

}  // namespace usmlite::emu
