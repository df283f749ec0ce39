#include "emu/asynchronous_copy.hpp"

#include <cstring>

#include "core/error.hpp"
#include "emu/global_memory.hpp"
#include "emu/machine.hpp"

namespace usmlite::emu {

void AsynchronousCopies::begin(int blocks, int threads) {
  if (threads_.size() < static_cast<size_t>(threads)) threads_.resize(threads);  // never fewer: their memory is used again
  for (int id = 0; id < threads; ++id) {
    ThreadCopies& thread = threads_[id];
    thread.copies.clear();
    thread.groups.clear();
    thread.uncommitted = thread.uncommitted_stores = 0;
    thread.stores.clear();
    thread.store_groups.clear();
  }
  barriers_.assign(blocks, {});
  under_way_.clear();
}

void AsynchronousCopies::end(const std::string& place) {
  if (!under_way_.empty())
    throw Error(error_code::kGpuFailed,
                place + ": the block ended while copies to its shared memory were under way; wait for their mbarrier first");
}

// ---- cp.async ----

void AsynchronousCopies::copy_16(void* shared, const void* global, int bytes) {
  const int self = machine().current().id;
  const uint32_t offset = machine().shared().offset_of(shared, 16, 16, "copy_async_16");
  if (bytes > 0) global_memory::check(global, bytes, 16, global_memory::Access::kRead, "copy_async_16");
  machine().shared().begin_arrival(self, offset, 16, "copy_async_16");
  threads_[self].copies.push_back({offset, global, bytes});
  ++threads_[self].uncommitted;
}

void AsynchronousCopies::commit() {
  ThreadCopies& own = threads_[machine().current().id];
  own.groups.push_back(own.uncommitted);
  own.uncommitted = 0;
}

void AsynchronousCopies::wait(int pending) {
  const int self = machine().current().id;
  ThreadCopies& own = threads_[self];
  SharedMemory& shared = machine().shared();
  while (static_cast<int>(own.groups.size()) > pending) {
    for (size_t left = own.groups.front(); left > 0; --left) {
      const Copy16& copy = own.copies.front();
      if (copy.bytes > 0) std::memcpy(shared.data() + copy.offset, copy.global, copy.bytes);
      std::memset(shared.data() + copy.offset + copy.bytes, 0, 16 - copy.bytes);
      shared.end_arrival(copy.offset, 16, self, machine().order().clock(self), Proxy::kGeneric);
      own.copies.pop_front();
    }
    own.groups.pop_front();
  }
}

}  // namespace usmlite::emu

namespace usmlite::cuda::ptx {

namespace {
emu::AsynchronousCopies& copies() { return emu::machine().copies(); }
}  // namespace

void copy_async_16(void* shared, const void* global, bool valid) { copies().copy_16(shared, global, valid ? 16 : 0); }
void copy_async_16_of(void* shared, const void* global, int bytes) { copies().copy_16(shared, global, bytes); }
void copy_async_commit() { copies().commit(); }
void wait_for_copies(int pending) { copies().wait(pending); }

}  // namespace usmlite::cuda::ptx
