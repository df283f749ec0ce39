// cuda/ptx_memory.cuh, emulated: moving data.
#pragma once

#include "emu/kernel_language.hpp"

namespace usmlite::cuda {

/// A 2-D tensor in global memory, whose boxes are copied with the 128-byte swizzle.
struct alignas(64) TensorMap {
  const unsigned char* base;
  int64_t rows, row_bytes, row_stride_bytes;
  int element_bytes, box_rows, box_row_bytes;
};

namespace ptx {

uint32_t shared_address(const void* pointer);

inline int lane_id() { return static_cast<int>(threadIdx.x & 31); }
inline int warp_id() { return static_cast<int>(threadIdx.x >> 5); }
void warp_sync();
void block_sync();
void named_barrier_sync(int id, int threads);

/// Gives this lane what lane `source` gave.
void exchange(const void* value, void* result, int bytes, int source);
template <typename T> inline T shuffle(T value, int lane) {
  T result;
  exchange(&value, &result, sizeof(T), lane & 31);
  return result;
}
template <typename T> inline T shuffle_xor(T value, int mask) { return shuffle(value, lane_id() ^ mask); }

uint4 load_once(const uint4* address);
uint2 load_once(const uint2* address);
uint32_t load_once(const uint32_t* address);
int atomic_add(int* address, int value);
void atomic_add(float* address, float value);

void copy_async_16(void* shared, const void* global, bool valid = true);
void copy_async_16_of(void* shared, const void* global, int bytes);
void copy_async_commit();
void wait_for_copies(int pending);
template <int Pending> inline void copy_async_wait() { wait_for_copies(Pending); }

void load_matrix_x4(uint32_t (&r)[4], const void* row);
void load_matrix_x2(uint32_t (&r)[2], const void* row);
void load_matrix_transposed_x4(uint32_t (&r)[4], const void* row);
void store_matrix_transposed_x4(void* row, const uint32_t (&r)[4]);

void barrier_init(uint64_t* barrier, uint32_t arrivals);
void barrier_init_fence();
void barrier_arrive(uint64_t* barrier);
void barrier_arrive_expect(uint64_t* barrier, uint32_t bytes);
void barrier_wait(uint64_t* barrier, uint32_t parity);
void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier);
void tensor_copy(void* shared, const TensorMap* map, int column, int row, uint64_t* barrier);
void bulk_copy_multicast(void* shared, const void* global, uint32_t bytes, uint64_t* barrier, uint16_t blocks);
void tensor_copy_multicast(void* shared, const TensorMap* map, int column, int row, uint64_t* barrier, uint16_t blocks);
void tensor_store(const TensorMap* map, int column, int row, const void* shared);
void bulk_store_commit();
void bulk_store_wait_for(size_t pending);
template <int Pending> void bulk_store_wait_read() { bulk_store_wait_for(Pending); }
inline void bulk_store_wait() { bulk_store_wait_for(0); }
int cluster_rank();
void cluster_sync();
void barrier_arrive_cluster(uint64_t* barrier, int rank);
void previous_kernel_wait();
inline void next_kernel_start() {}
inline void take_turn() { previous_kernel_wait(); }
inline void prefetch_tensor_map(const TensorMap*) {}
void async_proxy_fence();

}  // namespace ptx
}  // namespace usmlite::cuda
