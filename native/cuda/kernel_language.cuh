// What kernels are written in: CUDA's keywords and built-in variables, or the emulator's stand-ins for them.
//
// A kernel file (*.cu) is compiled by nvcc for the device and, with the emulator, by the host compiler for tests without
// a GPU. It therefore keeps to this language: shared memory only through `shared_memory()`, launches only through
// `launch`, warp and block synchronisation and everything below C++ only through ptx.cuh.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__

#include <cuda_runtime.h>

// Code for wgmma, setmaxnreg and sparse wgmma exists only in the sm_90a pass; the body of such a kernel is empty in others. Code for blocks
// with little shared memory (99 KiB on 8.6, 8.9 and 12.0) exists only in those.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define USMLITE_SM90A 1
#define USMLITE_SMALL_BLOCKS 0
#else
#define USMLITE_SM90A 0
#define USMLITE_SMALL_BLOCKS 1
#endif

namespace usmlite::cuda {

/// The dynamic shared memory of the block, aligned to 1,024 bytes (what swizzled tiles need).
__device__ __forceinline__ unsigned char* shared_memory() {
  extern __shared__ __align__(1024) unsigned char usmlite_shared_memory[];
  return usmlite_shared_memory;
}

}  // namespace usmlite::cuda

#else

#define USMLITE_SM90A 1
#define USMLITE_SMALL_BLOCKS 1
#include "emu/kernel_language.hpp"  // __global__, __device__, threadIdx, shared_memory(), ...

#endif

namespace usmlite::cuda {

/// Tags for the types that tensor cores multiply; values travel as raw bits.
struct BFloat16 {};
struct Float16 {};
struct Float8E4M3 {};
struct Int8 {};

}  // namespace usmlite::cuda
