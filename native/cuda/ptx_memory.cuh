// Moving data: asynchronous copies, barriers in shared memory, matrix loads, cache hints. Device side of ptx.cuh.
#pragma once

#include <cuda.h>  // CUtensorMap: a type only, nothing of libcuda is linked

namespace usmlite::cuda {

/// Describes a 2-D tensor in global memory to the copy engine; made on the host by make_tensor_map (tensor_map.hpp).
using TensorMap = CUtensorMap;

namespace ptx {

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x & 31); }
/// The warp of this thread, told to the compiler to be the same for all its threads.
__device__ __forceinline__ int warp_id() { return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x >> 5), 0); }
__device__ __forceinline__ void warp_sync() { __syncwarp(); }
__device__ __forceinline__ void block_sync() { __syncthreads(); }
/// Waits until `threads` threads of the block have come to barrier `id` (1..15).
__device__ __forceinline__ void named_barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
template <typename T> __device__ __forceinline__ T shuffle(T value, int lane) { return __shfl_sync(0xffffffffu, value, lane); }
template <typename T> __device__ __forceinline__ T shuffle_xor(T value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }

// ---- global memory ----

/// 16 bytes that are read once: not kept in the first-level cache, first to leave the second-level one.
__device__ __forceinline__ uint4 load_once(const uint4* address) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(address));
  return v;
}
__device__ __forceinline__ uint2 load_once(const uint2* address) {
  uint2 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(address));
  return v;
}
__device__ __forceinline__ uint32_t load_once(const uint32_t* address) {
  uint32_t v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.u32 %0, [%1];" : "=r"(v) : "l"(address));
  return v;
}
/// Returns what was there before. What this thread did, or knows of by a barrier, is over for those that add to the same counter later, and for
/// those that meet them at a barrier then.
__device__ __forceinline__ int atomic_add(int* address, int value) {
  int before;
  asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], %2;" : "=r"(before) : "l"(address), "r"(value) : "memory");
  return before;
}
/// Orders nothing.
__device__ __forceinline__ void atomic_add(float* address, float value) { atomicAdd(address, value); }

// ---- cp.async (sm_80) ----

/// Copies 16 bytes from global to shared memory; writes zeros instead where not `valid` (nothing is read then).
__device__ __forceinline__ void copy_async_16(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0) : "memory");
}
/// The first `bytes` (0 to 16), and zeros after them.
__device__ __forceinline__ void copy_async_16_of(void* shared, const void* global, int bytes) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most `Pending` of this thread's latest groups are under way.
template <int Pending> __device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// ---- matrices in shared memory ----

/// ldmatrix: four 8x8 matrices of 16-bit values; lane 8 i + r gives the address of row r (16 bytes) of matrix i. Register
/// i of lane 4 g + t receives columns 2 t and 2 t + 1 of row g of matrix i.
__device__ __forceinline__ void load_matrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
/// Two matrices; the addresses of lanes 0..15 count.
__device__ __forceinline__ void load_matrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
/// The four matrices transposed: register i of lane 4 g + t receives rows 2 t and 2 t + 1 of column g of matrix i.
__device__ __forceinline__ void load_matrix_transposed_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
#if __CUDA_ARCH__ >= 900
/// stmatrix, transposed: the inverse of load_matrix_transposed_x4.
__device__ __forceinline__ void store_matrix_transposed_x4(void* row, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
               ::"r"(shared_address(row)), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}

// ---- mbarrier and the bulk copy engine (sm_90) ----

__device__ __forceinline__ void barrier_init(uint64_t* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
/// After the barriers were initialised by one thread, before the block synchronises.
__device__ __forceinline__ void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void barrier_arrive(uint64_t* barrier) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0]; }" ::"r"(shared_address(barrier)) : "memory");
}
/// Arrives and lets the phase end only after `bytes` more bytes of asynchronous copies have come.
__device__ __forceinline__ void barrier_arrive_expect(uint64_t* barrier, uint32_t bytes) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1; }"
               ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}
/// Waits for the end of the phase of the given parity (0 for the first).
__device__ __forceinline__ void barrier_wait(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra finished;\n"
      "bra again;\n"
      "finished:\n"
      "}" ::"r"(shared_address(barrier)), "r"(parity) : "memory");
}
/// Copies `bytes` (a multiple of 16, both ends aligned to 16) from global to shared memory and reports to `barrier`.
__device__ __forceinline__ void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
               ::"r"(shared_address(shared)), "l"(global), "r"(bytes), "r"(shared_address(barrier)) : "memory");
}
/// Copies the box at (column, row) of the tensor, zeros beyond its edges, and reports the whole box to `barrier`.
__device__ __forceinline__ void tensor_copy(void* shared, const TensorMap* map, int column, int row, uint64_t* barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
               ::"r"(shared_address(shared)), "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier)) : "memory");
}
/// As tensor_copy, into the shared memory of every block of the cluster whose bit in `blocks` is set: at the same place in
/// each, reporting to the barrier at the same place.
__device__ __forceinline__ void tensor_copy_multicast(void* shared, const TensorMap* map, int column, int row, uint64_t* barrier,
                                                      uint16_t blocks) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
               " [%0], [%1, {%2, %3}], [%4], %5;"
               ::"r"(shared_address(shared)), "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier)), "h"(blocks) : "memory");
}
/// As bulk_copy, into every block of the cluster whose bit in `blocks` is set, as tensor_copy_multicast does.
__device__ __forceinline__ void bulk_copy_multicast(void* shared, const void* global, uint32_t bytes, uint64_t* barrier, uint16_t blocks) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;"
               ::"r"(shared_address(shared)), "l"(global), "r"(bytes), "r"(shared_address(barrier)), "h"(blocks) : "memory");
}
/// Copies a box from shared memory to (column, row) of the tensor, what lies beyond its edges not, as part of the group
/// that bulk_store_commit ends.
__device__ __forceinline__ void tensor_store(const TensorMap* map, int column, int row, const void* shared) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];"
               ::"l"(map), "r"(column), "r"(row), "r"(shared_address(shared)) : "memory");
}
__device__ __forceinline__ void bulk_store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Waits until all but the `Pending` latest groups of this thread's bulk stores have read shared memory.
template <int Pending> __device__ __forceinline__ void bulk_store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Pending) : "memory");
}
/// Waits until they are done.
__device__ __forceinline__ void bulk_store_wait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }
/// The place of this block in its cluster.
__device__ __forceinline__ int cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}
/// Waits for all threads of the cluster.
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
/// Arrives at the barrier at the same place in block `rank` of the cluster.
__device__ __forceinline__ void barrier_arrive_cluster(uint64_t* barrier, int rank) {
  asm volatile(
      "{ .reg .b32 remote; mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote]; }"
      ::"r"(shared_address(barrier)), "r"(rank) : "memory");
}
/// Waits until the kernels before this one in the stream have ended; before it, only what they do not write may be read.
__device__ __forceinline__ void previous_kernel_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
/// Lets the next kernel of the stream start its blocks.
__device__ __forceinline__ void next_kernel_start() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
__device__ __forceinline__ void prefetch_tensor_map(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
/// Makes ordinary writes to shared memory visible to the tensor cores and the copy engine.
__device__ __forceinline__ void async_proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
#endif

/// The first thing that a kernel does which may begin before the kernel before it has ended: waits for that one, and lets the
/// next begin. Older GPUs do not know it, and begin kernels one after the other.
__device__ __forceinline__ void take_turn() {
#if __CUDA_ARCH__ >= 900
  previous_kernel_wait();
  next_kernel_start();
#endif
}

}  // namespace ptx
}  // namespace usmlite::cuda
