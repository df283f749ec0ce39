// Kernels that are wrong, each in one way, which the emulator has to say: how they are tried.
#pragma once

#include <functional>
#include <string>

#include "device_check.hpp"

namespace usmlite::check {

/// Of the kernels: shared memory as words, and the thread.
__device__ inline uint32_t* words() { return reinterpret_cast<uint32_t*>(cuda::shared_memory()); }
__device__ inline int self() { return static_cast<int>(threadIdx.x); }

inline constexpr size_t kSharedBytes = 4096;

/// Prints the name, the error's code and the message, separated by tabs; test/100-emulator.test.ts knows what they must be.
void attempt(const std::string& name, const std::function<void()>& body);
/// Runs a kernel on `threads` threads, with a device array of 64 words.
void attempt_kernel(const std::string& name, void (*kernel)(uint32_t*), unsigned threads = 64, unsigned blocks = 1,
                    unsigned cluster = 1);

// Each in a file of its own, misuse_*.cu.
void attempt_misuse_of_threads();
void attempt_misuse_of_global_order();
void attempt_misuse_of_copies();
void attempt_misuse_of_rings();
void attempt_misuse_of_products();

}  // namespace usmlite::check
