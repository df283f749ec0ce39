// The copy engine of sm_90: bulk and tensor copies to shared memory, which report to mbarriers, and stores from it.
#include <algorithm>
#include <cstring>

#include "core/error.hpp"
#include "emu/asynchronous_copy.hpp"
#include "emu/capability.hpp"
#include "emu/global_memory.hpp"
#include "emu/machine.hpp"

namespace usmlite::emu {

void AsynchronousCopies::start(BulkCopy copy, uint64_t* pointer, uint32_t blocks, const char* operation) {
  if (blocks == 0 || blocks >> machine().blocks())
    machine().fail(std::string(operation) + " to blocks that are not in the cluster");
  for (int place = 0; place < machine().blocks(); ++place) {
    if (!(blocks >> place & 1)) continue;
    const Barrier& barrier = find(pointer, operation, place);
    if (!barrier.fenced)
      machine().fail(std::string(operation) + " with an mbarrier that was initialised without barrier_init_fence after it");
    copy.block = place;
    copy.barrier = static_cast<int>(&barrier - barriers_[place].data());
    machine().block(place).shared.begin_arrival(machine().current().id, copy.offset,
                                                copy.row_bytes * static_cast<uint32_t>(copy.rows.size()), operation);
    under_way_.push_back(copy);
  }
}

void AsynchronousCopies::bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier, uint32_t blocks) {
  if (bytes == 0 || bytes % 16 != 0)
    machine().fail("bulk_copy of " + std::to_string(bytes) + " bytes, which is not a positive multiple of 16");
  global_memory::check(global, bytes, 16, global_memory::Access::kRead, "bulk_copy");
  BulkCopy copy{};
  copy.offset = machine().shared().offset_of(shared, bytes, 16, "bulk_copy");
  copy.rows = {static_cast<const unsigned char*>(global)};
  copy.row_bytes = copy.valid_bytes = bytes;
  start(std::move(copy), barrier, blocks, "bulk_copy");
}

void AsynchronousCopies::tensor_copy(void* shared, const cuda::TensorMap& map, int column, int row, uint64_t* barrier,
                                     uint32_t blocks) {
  const int64_t row_bytes = map.box_row_bytes;
  BulkCopy copy{};
  // The swizzle follows the address, so a box begins where its pattern does.
  copy.offset = machine().shared().offset_of(shared, static_cast<uint32_t>(row_bytes * map.box_rows), 1024, "tensor_copy");
  copy.row_bytes = static_cast<uint32_t>(row_bytes);
  copy.swizzled = true;
  const int64_t first = int64_t{column} * map.element_bytes;  // may lie beyond either edge
  if (first % 16 != 0)
    machine().fail("tensor_copy from byte " + std::to_string(first) + " of rows, which is not a multiple of 16");
  const int64_t begin = std::clamp<int64_t>(first, 0, map.row_bytes),
                end = std::clamp<int64_t>(first + row_bytes, 0, map.row_bytes);
  copy.skipped_bytes = static_cast<uint32_t>(std::clamp<int64_t>(begin - first, 0, row_bytes));
  copy.valid_bytes = static_cast<uint32_t>(end - begin);
  for (int r = 0; r < map.box_rows; ++r) {
    const int64_t from = int64_t{row} + r;
    const bool inside = from >= 0 && from < map.rows && copy.valid_bytes > 0;
    const unsigned char* const address = inside ? map.base + from * map.row_stride_bytes + begin : nullptr;
    if (inside) global_memory::check(address, copy.valid_bytes, 1, global_memory::Access::kRead, "tensor_copy");
    copy.rows.push_back(address);
  }
  start(std::move(copy), barrier, blocks, "tensor_copy");
}

void AsynchronousCopies::tensor_store(const cuda::TensorMap& map, int column, int row, const void* pointer) {
  need_hopper("tensor_store");
  const int self = machine().current().id;
  SharedMemory& shared = machine().shared();
  const uint32_t row_bytes = static_cast<uint32_t>(map.box_row_bytes), bytes = row_bytes * static_cast<uint32_t>(map.box_rows);
  const uint32_t offset = shared.offset_of(pointer, bytes, 1024, "tensor_store");
  if (map.row_bytes % 16 != 0) {  // an H100 writes beyond the end of such rows
    machine().fail("tensor_store into rows of " + std::to_string(map.row_bytes) + " bytes, not a multiple of 16: it would write beyond their end");
  }
  shared.check_product_read(self, offset, bytes, "tensor_store");
  shared.begin_use(offset, bytes);
  for (int r = 0; r < map.box_rows; ++r) {
    const int64_t to = int64_t{row} + r;
    if (to < 0 || to >= map.rows) continue;
    for (uint32_t c = 0; c < row_bytes; c += static_cast<uint32_t>(map.element_bytes)) {
      const int64_t at = int64_t{column} * map.element_bytes + c;
      if (at < 0 || at >= map.row_bytes) continue;
      unsigned char* const address = const_cast<unsigned char*>(map.base) + to * map.row_stride_bytes + at;
      global_memory::check(address, map.element_bytes, 1, global_memory::Access::kWrite, "tensor_store");
      const uint32_t from = offset + static_cast<uint32_t>(r) * row_bytes + c;
      std::memcpy(address, shared.data() + (from ^ (from >> 7 & 7) << 4), map.element_bytes);
    }
  }
  threads_[self].stores.emplace_back(offset, bytes);
  ++threads_[self].uncommitted_stores;
}

void AsynchronousCopies::commit_stores() {
  ThreadCopies& own = threads_[machine().current().id];
  own.store_groups.push_back(own.uncommitted_stores);
  own.uncommitted_stores = 0;
}

void AsynchronousCopies::wait_for_stores(size_t pending_groups) {
  const int self = machine().current().id;
  ThreadCopies& own = threads_[self];
  if (own.uncommitted_stores > 0) machine().fail("waiting for bulk stores of which some were not committed");
  MemoryOrder& order = machine().order();
  const uint32_t clock = order.tick();
  for (; own.store_groups.size() > pending_groups; own.store_groups.pop_front()) {
    for (size_t i = 0; i < own.store_groups.front(); ++i, own.stores.pop_front()) {
      machine().shared().end_use(own.stores.front().first, own.stores.front().second, self / 32, {&clock, 1});
    }
  }
  order.learn(self, self / 32, clock);
}

bool AsynchronousCopies::deliver_oldest() {
  if (under_way_.empty()) return false;
  const BulkCopy copy = std::move(under_way_.front());
  under_way_.pop_front();
  Block& block = machine().block(copy.block);
  if (block.alive == 0)
    throw Error(error_code::kGpuFailed,
                "block (" + std::to_string(block.index.x) + ", " + std::to_string(block.index.y) + ", " +
                    std::to_string(block.index.z) +
                    ") ended while a copy to its shared memory was under way; wait for its mbarrier first");
  SharedMemory& shared = block.shared;
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
  Barrier& barrier = barriers_[copy.block][copy.barrier];
  MemoryOrder& order = machine().order();
  const int party = order.copies_of(copy.block, copy.barrier);
  const uint32_t clock = order.release_copy(party, barrier.arriving);
  shared.end_arrival(copy.offset, bytes, party, clock, Proxy::kAsynchronous);
  barrier.missing_bytes -= bytes;
  end_phase_if_complete(barrier);
  return true;
}

}  // namespace usmlite::emu

namespace usmlite::cuda::ptx {

namespace {
emu::AsynchronousCopies& copies() { return emu::machine().copies(); }
uint32_t own_block() { return 1u << emu::machine().current().block; }
}  // namespace

void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  copies().bulk_copy(shared, global, bytes, barrier, own_block());
}
void tensor_copy(void* shared, const TensorMap* map, int column, int row, uint64_t* barrier) {
  copies().tensor_copy(shared, *map, column, row, barrier, own_block());
}
void bulk_copy_multicast(void* shared, const void* global, uint32_t bytes, uint64_t* barrier, uint16_t blocks) {
  copies().bulk_copy(shared, global, bytes, barrier, blocks);
}
void tensor_copy_multicast(void* shared, const TensorMap* map, int column, int row, uint64_t* barrier, uint16_t blocks) {
  copies().tensor_copy(shared, *map, column, row, barrier, blocks);
}
void tensor_store(const TensorMap* map, int column, int row, const void* shared) { copies().tensor_store(*map, column, row, shared); }
void bulk_store_commit() { copies().commit_stores(); }
void bulk_store_wait_for(size_t pending) { copies().wait_for_stores(pending); }
void async_proxy_fence() { emu::machine().shared().fence(emu::machine().current().id); }

}  // namespace usmlite::cuda::ptx
