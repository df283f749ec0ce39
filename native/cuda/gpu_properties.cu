// Which GPU there is, and what keeps this build from computing on it.
#include <cuda_runtime.h>

#include <string>

#include "core/error.hpp"
#include "cuda/runtime.hpp"

namespace usmlite::cuda {
namespace {

constexpr int kOldestComputeCapability = 80;

std::string version_text(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

/// For as long as the process: there is one GPU, asked once.
const char* kept(const std::string& text) { return (new std::string(text))->c_str(); }

struct Gpu {
  GpuAvailability availability;
  GpuProperties properties;
};

Gpu find_gpu() {
  Gpu gpu;
  GpuProperties& properties = gpu.properties;
  properties.emulated = false;
  cudaRuntimeGetVersion(&properties.runtime_version);
  cudaDriverGetVersion(&properties.driver_version);
  if (properties.driver_version == 0) {
    gpu.availability = {error_code::kNoGpu, "no NVIDIA driver is installed: libcuda.so.1 was not found; install the driver of "
                                            "the GPU, or compute on the CPU"};
    return gpu;
  }
  if (properties.driver_version / 1000 < properties.runtime_version / 1000) {
    gpu.availability = {error_code::kDriverTooOld,
                        kept("the NVIDIA driver supports CUDA " + version_text(properties.driver_version) + "; this build needs " +
                             std::to_string(properties.runtime_version / 1000) + ".0 or later: update the driver, or build "
                             "with an older nvcc")};
    return gpu;
  }
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    cudaGetLastError();
    gpu.availability = {error_code::kNoGpu, kept(std::string("the NVIDIA driver shows no GPU") +
                                                 (status == cudaSuccess ? "" : std::string(" (") + cudaGetErrorString(status) + ")") +
                                                 "; look at nvidia-smi and CUDA_VISIBLE_DEVICES, or compute on the CPU")};
    return gpu;
  }
  cudaDeviceProp found;
  if (const cudaError_t asked = cudaGetDeviceProperties(&found, 0); asked != cudaSuccess) {
    cudaGetLastError();
    gpu.availability = {error_code::kNoGpu, kept(std::string("the GPU does not answer (") + cudaGetErrorString(asked) +
                                                 "); look at nvidia-smi, or compute on the CPU")};
    return gpu;
  }
  properties.name = kept(found.name);
  properties.compute_capability = 10 * found.major + found.minor;
  properties.multiprocessors = found.multiProcessorCount;
  properties.memory_bytes = static_cast<int64_t>(found.totalGlobalMem);
  properties.second_level_cache_bytes = found.l2CacheSize;
  properties.shared_bytes_per_block = static_cast<int>(found.sharedMemPerBlockOptin);
  if (properties.compute_capability < kOldestComputeCapability) {
    gpu.availability = {error_code::kNoGpu, kept(std::string(found.name) + " has compute capability " + std::to_string(found.major) + "." +
                                                 std::to_string(found.minor) +
                                                 "; 8.0 (Ampere) or later is needed: choose another GPU with "
                                                 "CUDA_VISIBLE_DEVICES, or compute on the CPU")};
  }
  return gpu;
}

const Gpu& gpu() {
  static const Gpu found = find_gpu();
  return found;
}

}  // namespace

const GpuAvailability& gpu_availability() { return gpu().availability; }

const GpuProperties& gpu_properties() {
  const Gpu& found = gpu();
  if (found.availability.code) throw Error(found.availability.code, found.availability.sentence);
  return found.properties;
}

}  // namespace usmlite::cuda
