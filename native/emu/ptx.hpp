// The functions of cuda/ptx.cuh, emulated. What they mean is described at their device side (cuda/ptx_*.cuh).
#pragma once

#include "emu/ptx_memory.hpp"
#include "emu/ptx_mma.hpp"
#include "emu/ptx_numbers.hpp"
#include "emu/ptx_wgmma.hpp"
