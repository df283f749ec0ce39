#include "cuda/kernel_architecture.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <string>

#include "core/error.hpp"
#include "cuda/runtime.hpp"

namespace usmlite::cuda {
namespace {

constexpr int kNone = std::numeric_limits<int>::max();

int limit_of_environment() {
  const char* text = std::getenv("USMLITE_CUDA_ARCHITECTURE");
  if (!text || !*text) return kNone;
  for (const int known : {80, 89, 90}) {
    if (std::to_string(known) == text) return known;
  }
  throw Error(error_code::kInvalidArgument, "USMLITE_CUDA_ARCHITECTURE is \"" + std::string(text) + "\"; it must be 80, 89 or 90");
}

std::atomic<int>& limit() {
  static std::atomic<int> value = limit_of_environment();
  return value;
}

}  // namespace

int kernel_architecture() { return std::min(gpu_properties().compute_capability, limit().load(std::memory_order_relaxed)); }

void limit_kernel_architecture(int value) { limit().store(value == 0 ? kNone : value, std::memory_order_relaxed); }

}  // namespace usmlite::cuda
