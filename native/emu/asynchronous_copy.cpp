#include "emu/asynchronous_copy.hpp"

#include <algorithm>
#include <cstring>

#include "core/error.hpp"
#include "emu/block.hpp"
#include "emu/global_memory.hpp"

namespace usmlite::emu {

void AsynchronousCopies::begin_block(int threads) {
  threads_.resize(threads);
  for (ThreadCopies& thread : threads_) {
    thread.copies.clear();
    thread.groups.clear();
    thread.uncommitted = 0;
  }
  barriers_.clear();
  under_way_.clear();
}

void AsynchronousCopies::end_block(const std::string& place) {
  if (!under_way_.empty())
    throw Error(error_code::kGpuFailed, place + ": the block ended while copies to its shared memory were under way; wait for their mbarrier first");
}

// ---- cp.async ----

void AsynchronousCopies::copy_16(void* shared, const void* global, bool valid) {
  const int self = block().current().id;
  const uint32_t offset = block().shared().offset_of(shared, 16, 16, "copy_async_16");
  if (valid) global_memory::check(global, 16, 16, "copy_async_16");
  block().shared().begin_arrival(self, offset, 16, "copy_async_16");
  threads_[self].copies.push_back({offset, global, valid});
  ++threads_[self].uncommitted;
}

void AsynchronousCopies::commit() {
  ThreadCopies& own = threads_[block().current().id];
  own.groups.push_back(own.uncommitted);
  own.uncommitted = 0;
}

void AsynchronousCopies::wait(int pending) {
  const int self = block().current().id;
  ThreadCopies& own = threads_[self];
  SharedMemory& shared = block().shared();
  while (static_cast<int>(own.groups.size()) > pending) {
    for (size_t left = own.groups.front(); left > 0; --left) {
      const Copy16& copy = own.copies.front();
      if (copy.valid) {
        std::memcpy(shared.data() + copy.offset, copy.global, 16);
      } else {
        std::memset(shared.data() + copy.offset, 0, 16);
      }
      shared.end_arrival(copy.offset, 16, self, block().order().clock(self), Proxy::kGeneric);
      own.copies.pop_front();
    }
    own.groups.pop_front();
  }
}

// ---- mbarriers ----

void AsynchronousCopies::init(uint64_t* barrier, uint32_t arrivals) {
  const int self = block().current().id;
  SharedMemory& shared = block().shared();
  const uint32_t offset = shared.offset_of(barrier, 8, 8, "barrier_init");
  if (arrivals == 0 || arrivals >= 1u << 20) block().fail("barrier_init with " + std::to_string(arrivals) + " arrivals; from 1 to 2^20 - 1 are possible");
  if (barriers_.size() == MemoryOrder::kMostBarriers) block().fail("more mbarriers than the emulator follows (" + std::to_string(MemoryOrder::kMostBarriers) + ")");
  shared.place_barrier(self, offset);
  Barrier made{};
  made.offset = offset;
  made.arrivals = made.missing = arrivals;
  made.creator = self;
  made.creation_clock = block().order().clock(self);
  barriers_.push_back(std::move(made));
}

void AsynchronousCopies::init_fence() {
  for (Barrier& barrier : barriers_)
    if (barrier.creator == block().current().id) barrier.fenced = true;
}

AsynchronousCopies::Barrier& AsynchronousCopies::find(uint64_t* barrier, const char* operation) {
  const uint32_t offset = block().shared().offset_of(barrier, 8, 8, operation);
  for (Barrier& known : barriers_) {
    if (known.offset != offset) continue;
    if (!block().order().known(known.creator, known.creation_clock, block().current().id))
      block().fail(std::string(operation) + " on the mbarrier at byte " + std::to_string(offset) + " of shared memory, and no block_sync since barrier_init by thread " + std::to_string(known.creator));
    return known;
  }
  block().fail(std::string(operation) + " at byte " + std::to_string(offset) + " of shared memory, where no mbarrier was initialised");
}

void AsynchronousCopies::end_phase_if_complete(Barrier& barrier) {
  if (barrier.missing > 0 || barrier.missing_bytes != 0) return;
  ++barrier.phase;
  barrier.missing = barrier.arrivals;
  barrier.released = barrier.arriving;
  std::vector<std::pair<int, uint32_t>> still;
  for (const auto& [thread, parity] : barrier.waiting) {
    if ((barrier.phase & 1) != parity) {
      block().order().acquire(thread, barrier.released);
      block().resume(thread);
    } else {
      still.emplace_back(thread, parity);
    }
  }
  barrier.waiting = std::move(still);
}

void AsynchronousCopies::arrive(uint64_t* pointer, uint32_t expected_bytes) {
  Barrier& barrier = find(pointer, "barrier_arrive");
  if (barrier.missing == 0)
    block().fail("one more arrival at the mbarrier at byte " + std::to_string(barrier.offset) + " of shared memory than the " + std::to_string(barrier.arrivals) + " of its phase");
  block().order().release(block().current().id, barrier.arriving);
  barrier.missing_bytes += expected_bytes;
  --barrier.missing;
  end_phase_if_complete(barrier);
}

void AsynchronousCopies::wait(uint64_t* pointer, uint32_t parity) {
  Barrier& barrier = find(pointer, "barrier_wait");
  const int self = block().current().id;
  if (parity > 1) block().fail("barrier_wait for parity " + std::to_string(parity) + "; it is 0 or 1");
  if ((barrier.phase & 1) != parity) {
    block().order().acquire(self, barrier.released);
    return;
  }
  barrier.waiting.emplace_back(self, parity);
  block().wait("barrier_wait");
}

// ---- bulk and tensor copies ----

void AsynchronousCopies::start(BulkCopy copy, const char* operation) {
  const Barrier& barrier = barriers_[copy.barrier];
  if (!barrier.fenced) block().fail(std::string(operation) + " with an mbarrier that was initialised without barrier_init_fence after it");
  block().shared().begin_arrival(block().current().id, copy.offset, copy.row_bytes * static_cast<uint32_t>(copy.rows.size()), operation);
  under_way_.push_back(std::move(copy));
}

void AsynchronousCopies::bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* pointer) {
  Barrier& barrier = find(pointer, "bulk_copy");
  if (bytes == 0 || bytes % 16 != 0) block().fail("bulk_copy of " + std::to_string(bytes) + " bytes, which is not a positive multiple of 16");
  global_memory::check(global, bytes, 16, "bulk_copy");
  BulkCopy copy{};
  copy.offset = block().shared().offset_of(shared, bytes, 16, "bulk_copy");
  copy.rows = {static_cast<const unsigned char*>(global)};
  copy.row_bytes = copy.valid_bytes = bytes;
  copy.barrier = static_cast<int>(&barrier - barriers_.data());
  start(std::move(copy), "bulk_copy");
}

void AsynchronousCopies::tensor_copy(void* shared, const cuda::TensorMap& map, int column, int row, uint64_t* pointer) {
  Barrier& barrier = find(pointer, "tensor_copy");
  const uint32_t row_bytes = static_cast<uint32_t>(map.box_row_bytes);
  // The swizzle follows the address, so a box begins where its pattern does.
  const uint32_t offset = block().shared().offset_of(shared, row_bytes * map.box_rows, 1024, "tensor_copy");
  BulkCopy copy{};
  copy.offset = offset;
  copy.row_bytes = row_bytes;
  copy.swizzled = true;
  copy.barrier = static_cast<int>(&barrier - barriers_.data());
  const int64_t first = int64_t{column} * map.element_bytes;
  const int64_t begin = std::clamp<int64_t>(first, 0, map.row_bytes), end = std::clamp<int64_t>(first + row_bytes, 0, map.row_bytes);
  copy.skipped_bytes = static_cast<uint32_t>(begin - first > row_bytes ? row_bytes : begin - first < 0 ? 0 : begin - first);
  copy.valid_bytes = static_cast<uint32_t>(end - begin);
  for (int r = 0; r < map.box_rows; ++r) {
    const int64_t from = int64_t{row} + r;
    const bool inside = from >= 0 && from < map.rows && copy.valid_bytes > 0;
    const unsigned char* const address = map.base + from * map.row_stride_bytes + begin;
    if (inside) global_memory::check(address, copy.valid_bytes, 1, "tensor_copy");
    copy.rows.push_back(inside ? address : nullptr);
  }
  start(std::move(copy), "tensor_copy");
}

bool AsynchronousCopies::deliver_oldest() {
  if (under_way_.empty()) return false;
  const BulkCopy copy = std::move(under_way_.front());
  under_way_.pop_front();
  SharedMemory& shared = block().shared();
  const uint32_t bytes = copy.row_bytes * static_cast<uint32_t>(copy.rows.size());
  std::vector<unsigned char> line(copy.row_bytes);
  for (size_t r = 0; r < copy.rows.size(); ++r) {
    std::fill(line.begin(), line.end(), 0);
    if (copy.rows[r]) std::memcpy(line.data() + copy.skipped_bytes, copy.rows[r], copy.valid_bytes);
    const uint32_t to = copy.offset + static_cast<uint32_t>(r) * copy.row_bytes;
    for (uint32_t c = 0; c < copy.row_bytes; c += 16) {
      const uint32_t swizzle = copy.swizzled ? (to >> 7 & 7) << 4 : 0;
      std::memcpy(shared.data() + ((to + c) ^ swizzle), line.data() + c, 16);
    }
  }
  Barrier& barrier = barriers_[copy.barrier];
  MemoryOrder& order = block().order();
  const int party = order.copies_of(copy.barrier);
  const uint32_t clock = order.release_copy(party, barrier.arriving);
  shared.end_arrival(copy.offset, bytes, party, clock, Proxy::kAsynchronous);
  barrier.missing_bytes -= bytes;
  end_phase_if_complete(barrier);
  return true;
}

}  // namespace usmlite::emu

namespace usmlite::cuda::ptx {

namespace {
emu::AsynchronousCopies& copies() { return emu::block().copies(); }
}  // namespace

void copy_async_16(void* shared, const void* global, bool valid) { copies().copy_16(shared, global, valid); }
void copy_async_commit() { copies().commit(); }
void wait_for_copies(int pending) { copies().wait(pending); }
void barrier_init(uint64_t* barrier, uint32_t arrivals) { copies().init(barrier, arrivals); }
void barrier_init_fence() { copies().init_fence(); }
void barrier_arrive(uint64_t* barrier) { copies().arrive(barrier, 0); }
void barrier_arrive_expect(uint64_t* barrier, uint32_t bytes) { copies().arrive(barrier, bytes); }
void barrier_wait(uint64_t* barrier, uint32_t parity) { copies().wait(barrier, parity); }
void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) { copies().bulk_copy(shared, global, bytes, barrier); }
void tensor_copy(void* shared, const TensorMap* map, int column, int row, uint64_t* barrier) {
  copies().tensor_copy(shared, *map, column, row, barrier);
}
void bulk_copy_multicast(void* shared, const void* global, uint32_t bytes, uint64_t* barrier, uint16_t blocks) {
  if (blocks != 1) emu::block().fail("bulk_copy_multicast to blocks that are not in the cluster");
  copies().bulk_copy(shared, global, bytes, barrier);
}
void tensor_copy_multicast(void* shared, const TensorMap* map, int column, int row, uint64_t* barrier, uint16_t blocks) {
  if (blocks != 1) emu::block().fail("tensor_copy_multicast to blocks that are not in the cluster");
  copies().tensor_copy(shared, *map, column, row, barrier);
}
int cluster_rank() { return 0; }
void cluster_sync() { emu::block().block_barrier(); }
void barrier_arrive_cluster(uint64_t* barrier, int rank) {
  if (rank != 0) emu::block().fail("barrier_arrive_cluster in a block that is not in the cluster");
  copies().arrive(barrier, 0);
}
void async_proxy_fence() { emu::block().shared().fence(emu::block().current().id); }

}  // namespace usmlite::cuda::ptx
