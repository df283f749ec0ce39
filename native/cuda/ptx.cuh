// Every instruction that has no C++ spelling, behind functions whose meaning does not depend on the hardware: compiled
// by nvcc they are inline PTX, compiled for the host they are emulated (native/emu), so that kernels are written once.
// No other file holds inline PTX. Instructions are described in the PTX ISA, CUDA 13.0.
#pragma once

#include "cuda/kernel_language.cuh"

#ifdef __CUDACC__
#include "cuda/ptx_memory.cuh"
#include "cuda/ptx_mma.cuh"
#include "cuda/ptx_numbers.cuh"
#include "cuda/ptx_wgmma.cuh"
#else
#include "emu/ptx.hpp"
#endif
