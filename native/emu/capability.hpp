// Which GPU is emulated: a Hopper, or, by the environment's USMLITE_EMULATED_CAPABILITY (8.0, 8.6, 8.9, 9.0, 10.0, 12.0), another of
// those that the kernels are for. They differ in the shared memory of a block and in the instructions that they know.
#pragma once

#include <cstdint>

namespace usmlite::emu {

struct Capability {
  int number;             // 90 for 9.0
  uint32_t shared_bytes;  // the most that a block may ask for: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"
};

/// Throws INVALID_ARGUMENT for a value that is none of these.
const Capability& capability();

/// Fails the running kernel where the emulated GPU does not know an instruction of Hopper: the copy engine, clusters and wgmma of
/// sm_90a, for which no other GPU has code.
void need_hopper(const char* operation);

}  // namespace usmlite::emu
