// Copies that run beside the threads, and the mbarriers that tell when they have come: cp.async, bulk and tensor copies.
// Data always comes as late as it may: cp.async's when its thread waits, the others' when nothing else can run.
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "emu/memory_order.hpp"
#include "emu/ptx_memory.hpp"

namespace usmlite::emu {

class AsynchronousCopies {
 public:
  void begin(int blocks, int threads);
  /// Fails when copies to an mbarrier are still under way; those of threads may be.
  void end(const std::string& place);

  // cp.async of the running thread
  /// Zeros after the first `bytes`.
  void copy_16(void* shared, const void* global, int bytes);
  void commit();
  void wait(int pending);

  // mbarriers
  void init(uint64_t* barrier, uint32_t arrivals);
  void init_fence();
  /// At the barrier at the same place in block `place` of the cluster.
  void arrive(uint64_t* barrier, uint32_t expected_bytes, int place);
  void wait(uint64_t* barrier, uint32_t parity);
  /// To the blocks of the cluster whose bit in `blocks` is set.
  void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier, uint32_t blocks);
  void tensor_copy(void* shared, const cuda::TensorMap& map, int column, int row, uint64_t* barrier, uint32_t blocks);
  /// Written at once; the shared memory is in use until the thread waits.
  void tensor_store(const cuda::TensorMap& map, int column, int row, const void* shared);
  void commit_stores();
  void wait_for_stores(size_t pending_groups);
  /// False when none is under way.
  bool deliver_oldest();

 private:
  struct Copy16 {
    uint32_t offset;
    const void* global;
    int bytes;
  };
  struct ThreadCopies {
    std::deque<Copy16> copies;
    std::deque<size_t> groups;  // copies of each committed group
    size_t uncommitted = 0;
    std::deque<std::pair<uint32_t, uint32_t>> stores;  // offset, bytes
    std::deque<size_t> store_groups;                   // stores of each committed group
    size_t uncommitted_stores = 0;
  };
  struct Barrier {
    uint32_t offset, arrivals, missing;
    int64_t missing_bytes;
    uint32_t phase;
    int creator;
    uint32_t creation_clock;
    bool fenced;
    VectorClock arriving, released;
    std::vector<std::pair<int, uint32_t>> waiting;  // thread, parity
  };
  struct BulkCopy {
    uint32_t offset;
    std::vector<const unsigned char*> rows;          // null: beyond the tensor's edge, zeros
    uint32_t row_bytes, valid_bytes, skipped_bytes;  // zeros but for `valid_bytes` after `skipped_bytes`
    bool swizzled;
    int block, barrier;
  };

  Barrier& find(uint64_t* barrier, const char* operation, int place);
  Barrier& find(uint64_t* barrier, const char* operation);
  void end_phase_if_complete(Barrier& barrier);
  void start(BulkCopy copy, uint64_t* barrier, uint32_t blocks, const char* operation);

  std::vector<ThreadCopies> threads_;
  std::vector<std::vector<Barrier>> barriers_;  // of each block
  std::deque<BulkCopy> under_way_;
};

}  // namespace usmlite::emu
