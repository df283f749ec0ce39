// Wrong asynchronous copies: cp.async, mbarriers, the copy engine.
#include "cuda/tensor_map.hpp"
#include "emulator_misuse.hpp"

namespace usmlite::check {

namespace {

using namespace cuda;

__global__ void copy_not_awaited(uint32_t* to) {
  ptx::copy_async_16(words(), to);
  ptx::copy_async_commit();
  to[self()] = words()[0];
}
__global__ void copy_of_odd_address(uint32_t* to) { ptx::copy_async_16(words() + 4 * self(), to + 1); }
__global__ void copy_beyond_global(uint32_t* to) { ptx::copy_async_16(words() + 4 * self(), to + 4 * self()); }

uint64_t* barriers() { return reinterpret_cast<uint64_t*>(shared_memory() + 2048); }
void make_barriers(uint32_t arrivals) {
  if (self() == 0) {
    ptx::barrier_init(barriers(), arrivals);
    ptx::barrier_init_fence();
  }
  ptx::block_sync();
}
__global__ void bulk_copy_not_awaited(uint32_t* to) {
  make_barriers(1);
  if (self() == 0) {
    ptx::barrier_arrive_expect(barriers(), 256);
    ptx::bulk_copy(words(), to, 256, barriers());
  }
  ptx::block_sync();
  to[self()] = words()[self()];
}
__global__ void bulk_copy_onto_what_is_read(uint32_t* to) {
  words()[self()] = 1;
  make_barriers(1);
  words()[128 + self()] = words()[63 - self()];
  if (self() == 0) {
    ptx::barrier_arrive_expect(barriers(), 256);
    ptx::bulk_copy(words(), to, 256, barriers());
  }
  ptx::barrier_wait(barriers(), 0);
}
__global__ void too_few_bytes_expected(uint32_t* to) {
  make_barriers(1);
  if (self() == 0) {
    ptx::barrier_arrive_expect(barriers(), 128);
    ptx::bulk_copy(words(), to, 256, barriers());
  }
  ptx::barrier_wait(barriers(), 0);
}
__global__ void odd_bulk_copy(uint32_t* to) {
  make_barriers(1);
  if (self() == 0) ptx::bulk_copy(words(), to, 24, barriers());
}
__global__ void ends_while_copying(uint32_t* to) {
  make_barriers(1);
  if (self() == 0) ptx::bulk_copy(words(), to, 256, barriers());
}
__global__ void one_arrival_too_many(uint32_t*) {
  make_barriers(32);
  if (self() == 0) ptx::barrier_arrive_expect(barriers(), 64);
  ptx::barrier_arrive(barriers());
}
__global__ void barrier_not_initialised(uint32_t*) { ptx::barrier_arrive(barriers()); }
__global__ void barrier_before_block_sync(uint32_t*) {
  if (self() == 0) ptx::barrier_init(barriers(), 64);
  ptx::barrier_arrive(barriers());
}
__global__ void barrier_overwritten(uint32_t*) {
  make_barriers(1);
  if (self() == 0) barriers()[0] = 0;
}
__global__ void tensor_to_odd_place(const __grid_constant__ TensorMap map) {
  make_barriers(1);
  if (self() == 0) ptx::tensor_copy(shared_memory() + 128, &map, 0, 0, barriers());
}
__global__ void tensor_from_odd_place(const __grid_constant__ TensorMap map) {
  make_barriers(1);
  if (self() == 0) ptx::tensor_copy(shared_memory(), &map, 12, 0, barriers());
}
__global__ void tensor_store_of_odd_rows(const __grid_constant__ TensorMap map) {
  words()[self()] = 1;
  ptx::async_proxy_fence();
  ptx::warp_sync();
  if (self() == 0) ptx::tensor_store(&map, 0, 0, shared_memory());
}
__global__ void arrives_at_ended_block(uint32_t* to) {
  make_barriers(1);
  ptx::cluster_sync();
  if (ptx::cluster_rank() == 1) return;
  for (int i = 0; i < 4; ++i) words()[self()] = static_cast<uint32_t>(ptx::atomic_add(reinterpret_cast<int*>(to), 0));
  ptx::barrier_arrive_cluster(barriers(), 1);
}

// ---- a ring of one stage: warp 0 has the copy engine fill it, warp 1 reads it ----

enum class Engine { kRight, kNoFullWait, kNoEmptyWait, kWrongParity, kPhaseBehind, kEarlyArrival };

constexpr uint32_t kRounds = 4;

template <Engine Mistake> __global__ void engine(uint32_t* to) {
  uint64_t* const full = reinterpret_cast<uint64_t*>(shared_memory() + 2048);
  uint64_t* const empty = full + 1;
  if (self() == 0) {
    ptx::barrier_init(full, 1);
    ptx::barrier_init(empty, 32);
    ptx::barrier_init_fence();
  }
  ptx::block_sync();
  for (uint32_t round = 0; round < kRounds; ++round) {
    const uint32_t parity = round % 2;
    if (self() == 0) {
      if (Mistake != Engine::kNoEmptyWait) ptx::barrier_wait(empty, parity ^ 1);
      ptx::barrier_arrive_expect(full, 256);
      ptx::bulk_copy(words(), to, 256, full);
    }
    if (self() >= 32) {
      if (Mistake == Engine::kWrongParity) ptx::barrier_wait(full, parity ^ 1);
      else if (Mistake == Engine::kPhaseBehind) ptx::barrier_wait(full, 0);
      else if (Mistake != Engine::kNoFullWait) ptx::barrier_wait(full, parity);
      if (Mistake == Engine::kEarlyArrival) ptx::barrier_arrive(empty);
      words()[128 + self()] = words()[63 - self()];
      if (Mistake != Engine::kEarlyArrival) ptx::barrier_arrive(empty);
    }
  }
}

}  // namespace

void attempt_misuse_of_copies() {
  attempt_kernel("copy not awaited", copy_not_awaited, 32);
  attempt_kernel("copy of odd address", copy_of_odd_address);
  attempt_kernel("copy beyond global", copy_beyond_global);
  attempt_kernel("bulk copy not awaited", bulk_copy_not_awaited);
  attempt_kernel("bulk copy onto what is read", bulk_copy_onto_what_is_read);
  attempt_kernel("too few bytes expected", too_few_bytes_expected);
  attempt_kernel("odd bulk copy", odd_bulk_copy);
  attempt_kernel("ends while copying", ends_while_copying);
  attempt_kernel("one arrival too many", one_arrival_too_many);
  attempt_kernel("barrier not initialised", barrier_not_initialised);
  attempt_kernel("barrier before block_sync", barrier_before_block_sync);
  attempt_kernel("barrier overwritten", barrier_overwritten);
  for (const bool odd_source : {false, true})
    attempt(odd_source ? "tensor from odd place" : "tensor to odd place", [&] {
      const DeviceArray<uint32_t> array(std::vector<uint32_t>(1024));
      launch(odd_source ? tensor_from_odd_place : tensor_to_odd_place, {1, 1, 1, 32, kSharedBytes}, nullptr,
             make_tensor_map(array.data(), 2, 16, 64, 128, 8, 64));
    });
  attempt("tensor store of odd rows", [&] {
    const DeviceArray<uint32_t> array(std::vector<uint32_t>(1024));
    launch(tensor_store_of_odd_rows, {1, 1, 1, 32, kSharedBytes}, nullptr, make_tensor_map(array.data(), 2, 1, 61, 64, 1, 64));
  });
  attempt_kernel("arrives at ended block", arrives_at_ended_block, 32, 2, 2);

  attempt_kernel("engine right", engine<Engine::kRight>);
  attempt_kernel("engine without wait for full", engine<Engine::kNoFullWait>);
  attempt_kernel("engine without wait for empty", engine<Engine::kNoEmptyWait>);
  attempt_kernel("engine with wrong parity", engine<Engine::kWrongParity>);
  attempt_kernel("engine one phase behind", engine<Engine::kPhaseBehind>);
  attempt_kernel("engine freed before it is read", engine<Engine::kEarlyArrival>);
}

}  // namespace usmlite::check
