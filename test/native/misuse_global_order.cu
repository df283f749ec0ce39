// Accesses to global memory that nothing puts in order, within a thread block and between them.
#include "emulator_misuse.hpp"

namespace usmlite::check {

namespace {

using namespace cuda;

__global__ void global_two_write(uint32_t* to) { to[self() / 2] = static_cast<uint32_t>(self()); }
__global__ void global_read_without_barrier(uint32_t* to) {
  to[self()] = 1;
  words()[self()] = to[self() / 2];
}
__global__ void global_overwrite_without_barrier(uint32_t* to) {
  words()[self()] = to[(self() + 1) % 64];
  to[self()] = 2;
}
__global__ void global_halves_of_a_word(uint32_t* to) {
  uint16_t* const halves = reinterpret_cast<uint16_t*>(to);
  halves[self()] = 1;
  ptx::block_sync();
  if (self() == 0) to[0] = 1;
  words()[self()] = halves[self()];
}
__global__ void global_right(uint32_t* to) {
  reinterpret_cast<uint16_t*>(to)[self()] = 1;
  ptx::block_sync();
  words()[self()] = to[self() / 4];
  ptx::block_sync();
  to[self()] = words()[63 - self()];
}
__global__ void blocks_write_the_same(uint32_t* to) { to[self()] = blockIdx.x; }
__global__ void block_overwrites_what_another_reads(uint32_t* to) {
  if (blockIdx.x == 0) words()[self()] = to[self()];
  else to[self()] = 1;
}

/// Each block leaves a number, and the last adds them, which here runs last: to[0] counts, to[1] is the sum, and numbers follow.
template <bool BarrierBefore, bool BarrierAfter, bool Everyone = true> __global__ void last_block_adds(uint32_t* to) {
  uint32_t* const numbers = to + 2;
  if (self() == 32) numbers[blockIdx.x] = blockIdx.x + 1;
  if (BarrierBefore) ptx::block_sync();
  if (self() == 0) ptx::atomic_add(reinterpret_cast<int*>(to), 1);
  if (BarrierAfter) ptx::block_sync();
  if (blockIdx.x != gridDim.x - 1 || (!Everyone && self() != 0)) return;
  uint32_t sum = 0;
  for (unsigned int block = 0; block < gridDim.x; ++block) sum += numbers[block];
  if (self() == 0) to[1] = sum;
}
__global__ void counts_in_floats(uint32_t* to) {
  if (self() != 0) return;
  to[2 + blockIdx.x] = blockIdx.x;
  ptx::atomic_add(reinterpret_cast<float*>(to), 1.0f);
  if (blockIdx.x == 1) to[1] = to[2];
}

}  // namespace

void attempt_misuse_of_global_order() {
  attempt_kernel("global: two write", global_two_write);
  attempt_kernel("global: read without barrier", global_read_without_barrier);
  attempt_kernel("global: overwrite without barrier", global_overwrite_without_barrier);
  attempt_kernel("global: halves of a word", global_halves_of_a_word);
  attempt_kernel("global right", global_right);
  attempt_kernel("blocks write the same", blocks_write_the_same, 32, 2);
  attempt_kernel("block overwrites what another reads", block_overwrites_what_another_reads, 32, 2);
  attempt_kernel("last block adds, right", last_block_adds<true, true>, 64, 4);
  attempt_kernel("last block adds, one thread of it, right", last_block_adds<true, false, false>, 64, 4);
  attempt_kernel("last block adds, no barrier before", last_block_adds<false, true>, 64, 4);
  attempt_kernel("last block adds, no barrier after", last_block_adds<true, false>, 64, 4);
  attempt_kernel("counts in floats", counts_in_floats, 32, 2);
}

}  // namespace usmlite::check
