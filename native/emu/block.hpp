// Runs a kernel: blocks one after another, the threads of a block as fibers in turn. A fiber runs until it has to wait for
// others. When none can run, copies under way arrive, oldest first; when there are none either, the block is stuck, which
// is an error that says who waits where.
#pragma once
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "emu/fiber.hpp"
#include "emu/kernel_language.hpp"
#include "emu/memory_order.hpp"
#include "emu/shared_memory.hpp"

namespace usmlite::emu {

class AsynchronousCopies;    // asynchronous_copy.hpp
class AsynchronousProducts;  // warpgroup_product.hpp

struct Thread {
  FiberContext context;
  int id;
  bool done;
  const char* waits_at;  // the operation; null when it can run
};

/// What runs: made by `launch`.
struct Grid {
  const char* kernel;  // for messages
  dim3 blocks;
  unsigned int threads;
  size_t shared_bytes;
  void (*call)(const void* arguments);
  const void* arguments;
};

class Block {
 public:
  Block();
  ~Block();

  /// Runs all blocks of a grid; throws GPU_FAILED on the first error.
  void run(const Grid& grid);

  Thread& current() { return *current_; }
  int threads() const { return static_cast<int>(threads_.size()); }
  MemoryOrder& order() { return order_; }
  SharedMemory& shared() { return shared_; }
  AsynchronousCopies& copies() { return *copies_; }
  AsynchronousProducts& products() { return *products_; }
  const FiberStacks& stacks() const { return stacks_; }
  const Thread& thread(int id) const { return threads_[id]; }

  /// The running thread waits until `resume` is called for it.
  void wait(const char* operation);
  void resume(int thread);

  /// Ends the run with an error, said to be of the running thread. Nothing on its stack is unwound.
  [[noreturn]] void fail(const std::string& sentence);

  /// A step of all 32 lanes of the running thread's warp, given in any order; the last to come performs it for all, with
  /// the pointers that the lanes gave.
  void meet_warp(const char* operation, void* operands, void (*perform)(int warp, void* const* operands));
  /// The same for the 128 threads of a warpgroup.
  void meet_warpgroup(const char* operation, void* operands, void (*perform)(int warpgroup, void* const* operands));
  /// Barrier 0 for all threads that have not ended, others for the number given.
  void block_barrier();
  void named_barrier(int id, int threads);
  void note_spin();

 private:
  struct Meeting {
    const char* operation;
    int arrived;
    void* operands[128];
  };
  struct NamedBarrier {
    int expected;
    std::vector<int> waiting;
  };
  static constexpr int kNamedBarriers = 16;

  void run_block();
  static void enter_fiber();
  void finish_current();
  void switch_to_next(FiberContext* from);
  void meet(Meeting& meeting, int first, int size, const char* operation, void* operands,
            void (*perform)(int group, void* const* operands));
  void complete_block_barrier();
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
  std::vector<Meeting> warps_, warpgroups_;
  std::vector<int> at_block_barrier_;
  NamedBarrier named_barriers_[kNamedBarriers];
  uint64_t spins_ = 0;
  std::exception_ptr failure_;
  MemoryOrder order_;
  SharedMemory shared_;
  std::unique_ptr<AsynchronousCopies> copies_;
  std::unique_ptr<AsynchronousProducts> products_;
};

/// The one machine of the process; it runs one kernel at a time.
Block& block();
/// Null when no kernel runs.
extern Thread* running_thread;

/// Runs a kernel; calls from several threads of the process take turns.
void run_grid(const Grid& grid);

}  // namespace usmlite::emu
