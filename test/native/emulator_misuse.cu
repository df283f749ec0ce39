// Kernels that are wrong, each in one way, which the emulator has to say. Prints, for each, its name, the error's code and
// the message, separated by tabs; test/100-emulator.test.ts knows what they must be.
#include <functional>
#include <string>

#include "cuda/tensor_map.hpp"
#include "device_check.hpp"

namespace usmlite::check {

namespace {

using namespace cuda;

uint32_t* words() { return reinterpret_cast<uint32_t*>(shared_memory()); }
int self() { return static_cast<int>(threadIdx.x); }

// ---- barriers between threads ----

__global__ void two_write(uint32_t*) { words()[self() / 2] = static_cast<uint32_t>(self()); }
__global__ void read_without_barrier(uint32_t* to) {
  words()[self()] = 1;
  to[self()] = words()[(self() + 1) % 64];
}
__global__ void overwrite_without_barrier(uint32_t* to) {
  words()[self()] = 1;
  ptx::block_sync();
  to[self()] = words()[(self() + 1) % 64];
  words()[self()] = 2;
}
__global__ void warp_barrier_for_block(uint32_t* to) {
  words()[self()] = 1;
  ptx::warp_sync();
  to[self()] = words()[(self() + 1) % 64];
}
__global__ void matrix_load_without_barrier(uint32_t* to) {
  for (int i = 0; i < 4; ++i) words()[self() * 4 + i] = 1;
  uint32_t r[4];
  ptx::load_matrix_x4(r, words() + (self() + 1) % 32 * 4);
  to[self()] = r[0];
}
__global__ void missing_thread(uint32_t*) {
  if (self() != 7) ptx::named_barrier_sync(1, 64);
}
__global__ void lane_leaves(uint32_t* to) {
  if (self() == 3) return;
  to[self()] = ptx::shuffle(to[self()], 0);
}
__global__ void lanes_part(uint32_t* to) {
  if (self() % 2) {
    ptx::warp_sync();
  } else {
    to[self()] = ptx::shuffle_xor(to[self()], 2);
  }
}
__global__ void barriers_of_two_sizes(uint32_t*) { ptx::named_barrier_sync(2, self() < 32 ? 64 : 32); }
__global__ void waits_for_later_block(uint32_t* to) {
  int* const flag = reinterpret_cast<int*>(to);
  if (blockIdx.x == 1) ptx::store_release(flag, 1);
  while (ptx::load_acquire(flag) != 1) {
  }
}

// ---- memory ----

__global__ void beyond_shared(uint32_t* to) { to[self()] = words()[self() + 1024]; }
__global__ void before_shared(uint32_t*) { words()[self() - 8] = 0; }
__global__ void matrix_load_beyond_shared(uint32_t*) {
  uint32_t r[4];
  ptx::load_matrix_x4(r, words() + 1024 + self() * 4);
}
__global__ void unwritten(uint32_t* to) {
  if (self() != 9) words()[self()] = 1;
  ptx::block_sync();
  to[self()] = words()[63 - self()];
}
__global__ void beyond_global(uint32_t* to) { to[self() + 1] = 0; }
__global__ void read_beyond_global(uint32_t* to) { to[self()] = to[self() * 2]; }
__global__ void load_once_beyond_global(uint32_t* to) { to[0] = ptx::load_once(reinterpret_cast<const uint4*>(to) + self()).x; }
__global__ void host_memory(uint32_t* to) { to[self()] = 1; }
__global__ void before_previous_kernel_ends(uint32_t* to) {
  to[self()] = 1;
  ptx::previous_kernel_wait();
}

// ---- asynchronous copies ----

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
  to[self()] = words()[63 - self()];
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
  for (int i = 0; i < 4; ++i) to[self()] = static_cast<uint32_t>(ptx::load_acquire(reinterpret_cast<int*>(to)));
  ptx::barrier_arrive_cluster(barriers(), 1);
}

// ---- products ----

__global__ void unordered_metadata(uint32_t* to) {
  float d[4] = {};
  const uint32_t a[4] = {}, b[4] = {};
  ptx::mma_sparse<BFloat16, 0>(d, a, b, 0x44444442u);
  to[self()] = ptx::bits_of(d[0]);
}

enum class Wgmma { kRight, kNoFence, kNoProxyFence, kTouched, kOverwritten, kDifferent, kNoWait, kPastRow };
template <Wgmma Mistake> __global__ void warpgroup_product(uint32_t* to) {
  for (int i = self(); i < 512; i += 128) words()[i] = 0;
  if (Mistake != Wgmma::kNoProxyFence) ptx::async_proxy_fence();
  ptx::block_sync();
  float d[8] = {};
  const uint32_t a[4] = {};
  uint64_t b = ptx::swizzled_descriptor(shared_memory());
  if (Mistake == Wgmma::kDifferent && self() == 100) b += 2;
  if (Mistake == Wgmma::kPastRow) b += 7;
  if (Mistake != Wgmma::kNoFence) ptx::wgmma_fence();
  ptx::Wgmma<BFloat16, 16>::dense(d, a, b, false);
  ptx::wgmma_commit();
  if (Mistake == Wgmma::kTouched) d[3] += 1.0f;
  if (Mistake == Wgmma::kOverwritten && self() == 0) words()[0] = 1;
  if (Mistake != Wgmma::kNoWait) ptx::wgmma_wait<0>();
  to[self() % 64] = Mistake == Wgmma::kNoWait ? 0 : ptx::bits_of(d[0]);
}

void attempt(const std::string& name, const std::function<void()>& body) {
  std::string code = "none", message;
  try {
    body();
  } catch (const Error& error) {
    code = error.code();
    message = error.what();
  }
  std::printf("%s\t%s\t%s\n", name.c_str(), code.c_str(), message.c_str());
}

constexpr size_t kSharedBytes = 4096;

/// Runs a kernel on `threads` threads, with a device array of 64 words.
void attempt_kernel(const std::string& name, void (*kernel)(uint32_t*), unsigned threads = 64, unsigned blocks = 1,
                    unsigned cluster = 1) {
  attempt(name, [&] {
    const DeviceArray<uint32_t> array(std::vector<uint32_t>(64));
    launch(kernel, {blocks, 1, 1, threads, kSharedBytes, cluster}, nullptr, array.data());
  });
}

void attempt_all() {
  attempt_kernel("two write", two_write);
  attempt_kernel("read without barrier", read_without_barrier);
  attempt_kernel("overwrite without barrier", overwrite_without_barrier);
  attempt_kernel("warp barrier for block", warp_barrier_for_block);
  attempt_kernel("matrix load without barrier", matrix_load_without_barrier, 32);
  attempt_kernel("missing thread", missing_thread);
  attempt_kernel("lane leaves", lane_leaves);
  attempt_kernel("lanes part", lanes_part);
  attempt_kernel("barriers of two sizes", barriers_of_two_sizes);
  attempt_kernel("waits for later block", waits_for_later_block, 32, 2);

  attempt_kernel("beyond shared", beyond_shared);
  attempt_kernel("before shared", before_shared);
  attempt_kernel("matrix load beyond shared", matrix_load_beyond_shared);
  attempt_kernel("unwritten", unwritten);
  attempt_kernel("beyond global", beyond_global);
  attempt_kernel("read beyond global", read_beyond_global);
  attempt_kernel("load_once beyond global", load_once_beyond_global);
  attempt("host memory", [] {
    std::vector<uint32_t> array(64);
    launch(host_memory, {1, 1, 1, 64, 0}, nullptr, array.data());
  });
  attempt("before the previous kernel ends", [] {
    const DeviceArray<uint32_t> array(std::vector<uint32_t>(64));
    launch(host_memory, {1, 1, 1, 64, 0}, nullptr, array.data());
    launch(before_previous_kernel_ends, {1, 1, 1, 64, 0, 1, true}, nullptr, array.data());
  });

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

  attempt_kernel("unordered metadata", unordered_metadata, 32);
  attempt_kernel("wgmma right", warpgroup_product<Wgmma::kRight>, 128);
  attempt_kernel("wgmma without fence", warpgroup_product<Wgmma::kNoFence>, 128);
  attempt_kernel("wgmma without proxy fence", warpgroup_product<Wgmma::kNoProxyFence>, 128);
  attempt_kernel("wgmma accumulator touched", warpgroup_product<Wgmma::kTouched>, 128);
  attempt_kernel("wgmma tile overwritten", warpgroup_product<Wgmma::kOverwritten>, 128);
  attempt_kernel("wgmma different", warpgroup_product<Wgmma::kDifferent>, 128);
  attempt_kernel("wgmma without wait", warpgroup_product<Wgmma::kNoWait>, 128);
  attempt_kernel("wgmma past row", warpgroup_product<Wgmma::kPastRow>, 128);
  attempt_kernel("wgmma without warpgroup", warpgroup_product<Wgmma::kRight>, 96);

  attempt_kernel("broken warp", two_write, 40);
  attempt_kernel("too many threads", two_write, 1056);
  attempt_kernel("no blocks", two_write, 32, 0);
  attempt_kernel("broken cluster", two_write, 32, 3, 2);
  attempt("too much shared memory", [] { launch(two_write, {1, 1, 1, 32, 256 * 1024}, nullptr, nullptr); });
  attempt("tensor map of odd stride", [] { make_tensor_map(nullptr, 2, 16, 64, 68, 8, 64); });
  attempt("tensor map of wide box", [] { make_tensor_map(nullptr, 2, 16, 64, 64, 8, 128); });
}

}  // namespace

}  // namespace usmlite::check

int main() { usmlite::check::attempt_all(); }
