// Runs a kernel: clusters one after another (mostly of one block), the threads of all blocks of a cluster as fibers in turn.
// A fiber runs until it has to wait for others. When none can run, copies under way arrive, oldest first; when there are
// none either, the cluster is stuck, which is an error that says who waits where.
//
// A run either gives the kernel's results or one error, GPU_FAILED, that names the place of the launch, the block and the
// thread. What is noticed: misuse of shared memory (shared_memory.hpp), of global memory beyond its buffers or before the
// kernel before has ended (global_memory.hpp) or in no order (access_record.hpp), of copies and mbarriers
// (asynchronous_copy.hpp), of products that are under way (warpgroup_product.hpp), and threads that never come. What is
// not: writes to global memory that an asynchronous copy is still to read (it counts as read when it is given); left
// operands in registers that are changed while a product is under way (they are taken when it is given); anything about
// time.
#pragma once
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "emu/fiber.hpp"
#include "emu/global_order.hpp"
#include "emu/kernel_language.hpp"
#include "emu/memory_order.hpp"
#include "emu/shared_memory.hpp"

namespace usmlite::emu {

class AsynchronousCopies;    // asynchronous_copy.hpp
class AsynchronousProducts;  // warpgroup_product.hpp

struct Thread {
  FiberContext context;
  int id;     // among all threads of the cluster
  int block;  // in the cluster
  bool done;
  const char* waits_at;  // the operation; null when it can run
  bool awaits_products;  // some of its warpgroup's are under way (warpgroup_product.hpp)
  uintptr_t accumulators_begin, accumulators_end;  // within which all of theirs lie
};

/// What runs: made by `launch`.
struct Grid {
  const char* kernel;  // for messages
  dim3 blocks;
  unsigned int cluster;  // blocks in x
  unsigned int threads;
  size_t shared_bytes;
  bool overlaps_previous;  // kernel, whose results may be missing until the block waits for it
  void (*call)(const void* arguments);
  const void* arguments;
};

/// A block that runs.
struct Block {
  static constexpr int kNamedBarriers = 16;
  struct NamedBarrier {
    int expected = 0;
    std::vector<int> waiting;
  };

  uint3 index;
  int first_thread, alive;
  bool waited_for_previous;  // kernel
  std::vector<int> at_barrier;
  NamedBarrier named_barriers[kNamedBarriers];
  SharedMemory shared;
};

class Machine {
 public:
  Machine();
  ~Machine();

  /// Runs all blocks of a grid; throws GPU_FAILED on the first error.
  void run(const Grid& grid);

  Thread& current() { return *current_; }
  /// The running thread's.
  Block& block() { return *blocks_[current_->block]; }
  Block& block(int place) { return *blocks_[place]; }
  int blocks() const { return static_cast<int>(grid_->cluster); }
  int threads_per_block() const { return static_cast<int>(grid_->threads); }
  MemoryOrder& order() { return order_; }
  GlobalOrder& global_order() { return global_order_; }
  SharedMemory& shared() { return block().shared; }
  AsynchronousCopies& copies() { return *copies_; }
  AsynchronousProducts& products() { return *products_; }
  const FiberStacks& stacks() const { return stacks_; }
  /// A thread as messages name it.
  std::string describe(int thread) const;

  /// The running thread waits until `resume` is called for it.
  void wait(const char* operation);
  void resume(int thread);

  /// Ends the run with an error of a thread, by default the running one. Nothing on its stack is unwound.
  [[noreturn]] void fail(const std::string& sentence) { fail(sentence, current_->id); }
  [[noreturn]] void fail(const std::string& sentence, int thread);

  /// A step of all 32 lanes of the running thread's warp, given in any order; the last to come performs it for all, with
  /// the pointers that the lanes gave and the first lane's thread.
  void meet_warp(const char* operation, void* operands, void (*perform)(int first_thread, void* const* operands));
  /// The same for the 128 threads of a warpgroup.
  void meet_warpgroup(const char* operation, void* operands, void (*perform)(int first_thread, void* const* operands));
  /// The first thread of the running thread's warpgroup; fails when its block ends within it.
  int warpgroup(const char* operation);
  /// Barrier 0 for all threads of the block that have not ended, others for the number given.
  void block_barrier();
  void named_barrier(int id, int threads);
  /// For all threads of the cluster.
  void cluster_barrier();
  /// Lets the other threads run, one of which this one may wait for; fails when nothing else seems to happen.
  void note_spin();
  /// The running thread's block has waited for the kernel before.
  void wait_for_previous_kernel() { block().waited_for_previous = true; }

 private:
  struct Meeting {
    const char* operation;
    int arrived;
    void* operands[128];
  };
  void run_cluster(uint3 first_block);
  static void enter_fiber();
  void finish_current();
  void switch_to_next(FiberContext* from);
  void meet(Meeting& meeting, int first, int size, const char* operation, void* operands,
            void (*perform)(int first_thread, void* const* operands));
  void complete_block_barrier(Block& block);
  [[noreturn]] void report_stuck();
  std::string place() const;

  FiberStacks stacks_;
  FiberContext scheduler_ = nullptr;
  const Grid* grid_ = nullptr;
  Thread* current_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<int> ready_;  // a ring of thread ids
  size_t ready_first_ = 0, ready_count_ = 0;
  int alive_ = 0;
  std::vector<Meeting> warps_, warpgroups_;  // a warpgroup's at the place of its first warp
  std::vector<int> at_cluster_barrier_;
  uint64_t spins_ = 0;
  std::exception_ptr failure_;
  MemoryOrder order_;
  GlobalOrder global_order_{order_};
  std::vector<std::unique_ptr<Block>> blocks_;
  std::unique_ptr<AsynchronousCopies> copies_;
  std::unique_ptr<AsynchronousProducts> products_;
};

/// The one machine of the process; it runs one kernel at a time.
inline Machine& machine() {
  static Machine* const machine = new Machine;  // never destroyed: a kernel may run while the process exits
  return *machine;
}
/// Of the kernel that this thread of the process runs; null when it runs none. Files with kernels hold host code too, which another thread of
/// the process may be in meanwhile: its accesses are none of the kernel's. (The model of thread-local storage is the one that takes no call.)
extern constinit thread_local Thread* running_thread __attribute__((tls_model("initial-exec")));

/// Runs a kernel; calls from several threads of the process take turns.
void run_grid(const Grid& grid);

}  // namespace usmlite::emu
