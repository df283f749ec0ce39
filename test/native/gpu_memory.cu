// Shuffles, barriers, cp.async, ldmatrix and stmatrix, loads and atomics.
#include <cstring>

#include "device_check.hpp"

namespace usmlite::check {

namespace {

using namespace cuda;

std::vector<uint32_t> counting(size_t count) {
  std::vector<uint32_t> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<uint32_t>(i * 2654435761u);
  return values;
}

__global__ void shuffle_kernel(const uint32_t* from, uint32_t* to) {
  const int thread = static_cast<int>(threadIdx.x), lane = ptx::lane_id();
  const uint32_t value = from[thread];
  to[thread] = ptx::shuffle(value, (lane + 5) % 32);
  to[64 + thread] = ptx::shuffle_xor(value, 12);
  to[128 + thread] = static_cast<uint32_t>(ptx::warp_id() * 100 + lane);
}
std::string check_shuffle() {
  const std::vector<uint32_t> from = counting(64);
  std::vector<uint32_t> expected(192);
  for (int i = 0; i < 64; ++i) {
    expected[i] = from[i / 32 * 32 + (i % 32 + 5) % 32];
    expected[64 + i] = from[i ^ 12];
    expected[128 + i] = static_cast<uint32_t>(i / 32 * 100 + i % 32);
  }
  const DeviceArray<uint32_t> source(from), to(std::vector<uint32_t>(192));
  launch(shuffle_kernel, {1, 1, 1, 64, 0}, nullptr, source.data(), to.data());
  return difference(to.values(), expected);
}

/// Two halves of the block meet among themselves, in a different order of named barriers, then all.
__global__ void named_barrier_kernel(uint32_t* to) {
  uint32_t* const shared = reinterpret_cast<uint32_t*>(shared_memory());
  const int thread = static_cast<int>(threadIdx.x), half = thread / 64;
  uint32_t value = static_cast<uint32_t>(thread);
  for (int round = 0; round < 4; ++round) {
    shared[thread] = value;
    ptx::named_barrier_sync(1 + half, 64);
    value = shared[half * 64 + (thread + 33) % 64] * 3 + static_cast<uint32_t>(round);
    ptx::named_barrier_sync(3 + half, 64);
  }
  shared[thread] = value;
  ptx::block_sync();
  to[thread] = shared[127 - thread];
}
std::string check_named_barriers() {
  std::vector<uint32_t> values(128), next(128), expected(128);
  for (uint32_t i = 0; i < 128; ++i) values[i] = i;
  for (uint32_t round = 0; round < 4; ++round) {
    for (uint32_t i = 0; i < 128; ++i) next[i] = values[i / 64 * 64 + (i + 33) % 64] * 3 + round;
    values = next;
  }
  for (uint32_t i = 0; i < 128; ++i) expected[i] = values[127 - i];
  const DeviceArray<uint32_t> to(std::vector<uint32_t>(128));
  launch(named_barrier_kernel, {1, 1, 1, 128, 512}, nullptr, to.data());
  return difference(to.values(), expected);
}

/// Three groups of copies under way at once; every third lane copies zeros, in the last group each a part of 16 bytes.
__global__ void copy_async_kernel(const uint4* from, uint4* to) {
  uint4* const shared = reinterpret_cast<uint4*>(shared_memory());
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int group = 0; group < 3; ++group) {
    const bool valid = thread % 3 != 0;
    uint4* const place = shared + group * 64 + thread;
    if (group < 2) ptx::copy_async_16(place, valid ? from + group * 64 + thread : nullptr, valid);
    else ptx::copy_async_16_of(place, from + group * 64 + thread, thread % 17);
    ptx::copy_async_commit();
  }
  ptx::copy_async_wait<2>();
  ptx::block_sync();
  to[thread] = shared[63 - thread];
  ptx::copy_async_wait<0>();
  ptx::block_sync();
  to[64 + thread] = shared[64 + 63 - thread];
  to[128 + thread] = shared[128 + 63 - thread];
}
std::string check_copy_async() {
  const std::vector<uint32_t> from = counting(3 * 64 * 4);
  std::vector<uint32_t> expected(from.size());
  for (int i = 0; i < 3 * 64; ++i) {
    const int source = i / 64 * 64 + 63 - i % 64;
    const int thread = source % 64, bytes = i >= 128 ? thread % 17 : thread % 3 != 0 ? 16 : 0;
    std::memcpy(&expected[4 * i], &from[4 * source], bytes);
  }
  const DeviceArray<uint32_t> source(from), to{std::vector<uint32_t>(from.size())};
  launch(copy_async_kernel, {1, 1, 1, 64, 3072}, nullptr, reinterpret_cast<const uint4*>(source.data()),
         reinterpret_cast<uint4*>(to.data()));
  return difference(to.values(), expected);
}

/// Matrices are rows of 16 bytes in shared memory, four matrices one after another; the places of rows are permuted.
__device__ __forceinline__ int place_of_row(int row) { return row * 13 % 32; }
enum class Matrices { kFour, kTwo, kTransposed };
template <Matrices M> __global__ void load_matrix_kernel(const uint4* from, uint32_t* to) {
  uint4* const shared = reinterpret_cast<uint4*>(shared_memory());
  const int lane = ptx::lane_id();
  shared[place_of_row(lane)] = from[lane];
  ptx::warp_sync();
  uint32_t registers[4] = {};
  if constexpr (M == Matrices::kTwo) {
    uint32_t two[2];
    ptx::load_matrix_x2(two, shared + place_of_row(lane % 16));
    registers[0] = two[0], registers[1] = two[1];
  } else if constexpr (M == Matrices::kTransposed) {
    ptx::load_matrix_transposed_x4(registers, shared + place_of_row(lane));
  } else {
    ptx::load_matrix_x4(registers, shared + place_of_row(lane));
  }
  for (int i = 0; i < 4; ++i) to[4 * lane + i] = registers[i];
}
/// PTX ISA, ldmatrix: "thread 0 holds elements 0 and 1 of row 0, thread 1 elements 2 and 3, ..., thread 4 elements 0 and 1 of row 1".
std::vector<uint32_t> loaded(const std::vector<uint32_t>& words, bool transposed, int matrices) {
  std::vector<uint16_t> values(256);
  std::memcpy(values.data(), words.data(), 512);
  std::vector<uint32_t> registers(128);
  for (int matrix = 0; matrix < matrices; ++matrix)
    for (int pair = 0; pair < 32; ++pair) {
      const int row = pair / 4, first = pair % 4 * 2, second = first + 1;
      const uint32_t low = values[64 * matrix + (transposed ? 8 * first + row : 8 * row + first)];
      const uint32_t high = values[64 * matrix + (transposed ? 8 * second + row : 8 * row + second)];
      registers[4 * pair + matrix] = high << 16 | low;
    }
  return registers;
}
template <Matrices M> std::string check_load_matrix() {
  const std::vector<uint32_t> from = counting(128);
  const DeviceArray<uint32_t> source(from), to{std::vector<uint32_t>(128)};
  launch(load_matrix_kernel<M>, {1, 1, 1, 32, 512}, nullptr, reinterpret_cast<const uint4*>(source.data()), to.data());
  return difference(to.values(), loaded(from, M == Matrices::kTransposed, M == Matrices::kTwo ? 2 : 4));
}

__global__ void store_matrix_kernel(const uint32_t* from, uint4* to) {
#if USMLITE_SM90A
  uint4* const shared = reinterpret_cast<uint4*>(shared_memory());
  const int lane = ptx::lane_id();
  const uint32_t registers[4] = {from[4 * lane], from[4 * lane + 1], from[4 * lane + 2], from[4 * lane + 3]};
  ptx::store_matrix_transposed_x4(shared + place_of_row(lane), registers);
  ptx::warp_sync();
  to[lane] = shared[place_of_row(lane)];
#endif
}
std::string check_store_matrix() {
  const std::vector<uint32_t> matrices = counting(128);
  const DeviceArray<uint32_t> registers(loaded(matrices, true, 4)), to{std::vector<uint32_t>(128)};
  launch(store_matrix_kernel, {1, 1, 1, 32, 512}, nullptr, registers.data(), reinterpret_cast<uint4*>(to.data()));
  return difference(to.values(), matrices);
}

/// Each block adds its sums; the last to come (by a counter) writes them out and leaves all as it was.
__global__ void last_block_kernel(float* sums, int* counters, float* to) {
  int* const last = reinterpret_cast<int*>(shared_memory());
  const int thread = static_cast<int>(threadIdx.x);
  ptx::atomic_add(sums + thread, static_cast<float>((blockIdx.x + 1) * static_cast<unsigned>(thread)));
  ptx::block_sync();
  if (thread == 0) *last = ptx::atomic_add(counters, 1) == static_cast<int>(gridDim.x) - 1;
  ptx::block_sync();
  if (!*last) return;
  to[thread] = sums[thread];
  if (thread == 0) {
    to[32] = static_cast<float>(*counters);
    *counters = 0;
    to[33] = static_cast<float>(*counters);
  }
}
std::string check_last_block() {
  std::vector<float> expected(34);
  for (int i = 0; i < 32; ++i) expected[i] = static_cast<float>(55 * i);
  expected[32] = 10;
  const DeviceArray<float> sums(std::vector<float>(32)), to(std::vector<float>(34));
  const DeviceArray<int> counters(std::vector<int>(1));
  launch(last_block_kernel, {10, 1, 1, 32, 16}, nullptr, sums.data(), counters.data(), to.data());
  return difference(to.values(), expected);
}

__global__ void load_once_kernel(const uint32_t* from, uint32_t* to) {
  const int thread = static_cast<int>(threadIdx.x);
  const uint4 four = ptx::load_once(reinterpret_cast<const uint4*>(from) + thread);
  const uint2 two = ptx::load_once(reinterpret_cast<const uint2*>(from) + thread);
  to[thread] = four.x + 3 * four.y + 5 * four.z + 7 * four.w;
  to[32 + thread] = two.x + 3 * two.y;
  to[64 + thread] = ptx::load_once(from + thread);
}
std::string check_load_once() {
  const std::vector<uint32_t> from = counting(128);
  std::vector<uint32_t> expected(96);
  for (int i = 0; i < 32; ++i) {
    expected[i] = from[4 * i] + 3 * from[4 * i + 1] + 5 * from[4 * i + 2] + 7 * from[4 * i + 3];
    expected[32 + i] = from[2 * i] + 3 * from[2 * i + 1];
    expected[64 + i] = from[i];
  }
  const DeviceArray<uint32_t> source(from), to{std::vector<uint32_t>(96)};
  launch(load_once_kernel, {1, 1, 1, 32, 0}, nullptr, source.data(), to.data());
  return difference(to.values(), expected);
}

}  // namespace

void check_memory_instructions() {
  report("shuffle", check_shuffle);
  report("named barriers", check_named_barriers);
  report("cp.async", check_copy_async);
  report("ldmatrix x4", check_load_matrix<Matrices::kFour>);
  report("ldmatrix x2", check_load_matrix<Matrices::kTwo>);
  report("ldmatrix x4 trans", check_load_matrix<Matrices::kTransposed>);
  report("stmatrix x4 trans", check_store_matrix);
  report("atomics, last block", check_last_block);
  report("load once", check_load_once);
}

}  // namespace usmlite::check
