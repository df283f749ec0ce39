// Wrong barriers between threads, and wrong accesses to memory.
#include "emulator_misuse.hpp"

namespace usmlite::check {

namespace {

using namespace cuda;

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
  if (blockIdx.x == 1) ptx::atomic_add(flag, 1);
  while (ptx::atomic_add(flag, 0) == 0) {
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
__global__ void read_beyond_global(uint32_t* to) { words()[self()] = to[self() * 2]; }
__global__ void load_once_beyond_global(uint32_t* to) { words()[self()] = ptx::load_once(reinterpret_cast<const uint4*>(to) + self()).x; }
__global__ void vector_at_odd_word(uint32_t* to) { words()[self()] = reinterpret_cast<const uint4*>(to + self() % 2)->y; }
__global__ void shared_vector_at_odd_word(uint32_t*) { reinterpret_cast<uint2*>(words() + 2 * self() + 1)->x = 0; }
__global__ void half_at_odd_byte(uint32_t* to) { reinterpret_cast<uint16_t*>(reinterpret_cast<char*>(to) + 1)[self()] = 0; }
__global__ void load_once_at_odd_word(uint32_t* to) { words()[self()] = ptx::load_once(reinterpret_cast<const uint4*>(to + self() % 2)).x; }
__global__ void host_memory(uint32_t* to) { to[self()] = 1; }
__global__ void before_previous_kernel_ends(uint32_t* to) {
  to[self()] = 1;
  ptx::previous_kernel_wait();
}

}  // namespace

void attempt_misuse_of_threads() {
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
  attempt_kernel("vector at odd word", vector_at_odd_word);
  attempt_kernel("shared vector at odd word", shared_vector_at_odd_word, 32);
  attempt_kernel("half at odd byte", half_at_odd_byte, 32);
  attempt_kernel("load_once at odd word", load_once_at_odd_word);
  attempt("host memory", [] {
    std::vector<uint32_t> array(64);
    launch(host_memory, {1, 1, 1, 64, 0}, nullptr, array.data());
  });
  attempt("before the previous kernel ends", [] {
    const DeviceArray<uint32_t> array(std::vector<uint32_t>(64));
    launch(host_memory, {1, 1, 1, 64, 0}, nullptr, array.data());
    launch(before_previous_kernel_ends, {1, 1, 1, 64, 0, 1, true}, nullptr, array.data());
  });
}

}  // namespace usmlite::check
